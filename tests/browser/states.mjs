// Every state of the page, on a phone and on a desktop, light and dark: axe finds nothing, nothing is
// wider than the window, and a screenshot is taken.
import { test } from 'node:test';
import { DESKTOP, PHONE, dialog, examine, fits, leave, shoot, visit } from './browser.mjs';

const widths = { phone: PHONE, desktop: DESKTOP };
const press = (page, name) => page.getByRole('button', { name, exact: true }).click();
const more = async (page, key, action) => {
  await press(page, `More actions for ${key}`);
  if (action) await page.locator('.menu:popover-open').getByRole('button', { name: action }).click();
};

// A state's name, its account, and how to get there.
const states = [
  ['list', 'admin'],
  ['odd-names', 'odd'],
  ['full', 'full'],
  ['empty', 'emptied'],
  ['menu', 'admin', (page) => more(page, 'Production CRM')],
  ['usage', 'admin', (page) => page.locator('.usage').first().click()],
  ['create', 'emptied', (page) => press(page, 'Create API key')],
  ['create-more', 'emptied', async (page) => {
    await press(page, 'Create API key');
    await page.getByText('More options').click();
    await page.getByLabel('Expires').selectOption('date');
  }],
  ['create-mistake', 'emptied', async (page) => {
    await press(page, 'Create API key');
    await press(page, 'Generate key');
  }],
  ['rename', 'admin', (page) => more(page, 'Production CRM', 'Rename')],
  ['rotate', 'admin', (page) => more(page, 'Production CRM', 'Rotate')],
  ['regenerate', 'admin', (page) => more(page, 'Production CRM', 'Regenerate')],
  ['delete', 'admin', (page) => press(page, 'Delete Production CRM')],
  ['delete-odd', 'odd', (page) => page.getByRole('button', { name: /^Delete W/ }).click()],
  ['session-ended', 'admin', async (page) => {
    await press(page, 'Delete Production CRM');
    await page.context().clearCookies();
    await press(page, 'Delete key');
    await page.getByText('Your session has ended').waitFor();
  }],
];

for (const [width, viewport] of Object.entries(widths)) {
  for (const colorScheme of ['light', 'dark']) {
    test(`${width}, ${colorScheme}`, async () => {
      for (const [name, account, act] of states) {
        const page = await visit(account, { viewport, colorScheme });
        // It asks whether there should be a first key, and then puts the list in anew: a click on the old one is lost.
        if (account === 'emptied') await page.waitForLoadState('networkidle');
        await act?.(page);
        const title = `${name}-${width}-${colorScheme}`;
        await examine(page, title);
        await shoot(page, title, { fullPage: !(await dialog(page).count()) });
        await leave(page, '401');
      }
      const down = await visit('admin', { path: '/broken/', viewport, colorScheme });
      await examine(down, 'down');
      await shoot(down, `down-${width}-${colorScheme}`, { fullPage: true });
      await leave(down, '503');

      const first = await visit(`first-${width}-${colorScheme}`, { viewport, colorScheme });
      await first.getByText('Your First API Key').waitFor();
      await examine(first, 'first');
      await shoot(first, `first-${width}-${colorScheme}`);
      await first.keyboard.press('Escape');
      await examine(first, 'first, leaving');
      await shoot(first, `first-leaving-${width}-${colorScheme}`);
      await press(first, 'Copy & close');
      await first.getByText('Copied. The key').waitFor();
      await examine(first, 'first, copied');
      await shoot(first, `first-copied-${width}-${colorScheme}`);
      await press(first, 'Create API key');
      await dialog(first).getByLabel('API Key Name').fill('Production CRM');
      await first.getByText('More options').click();
      await dialog(first).getByLabel('Environment').fill('live');
      await press(first, 'Generate key');
      await first.getByText('API Key Created Successfully').waitFor();
      await examine(first, 'created');
      await shoot(first, `created-${width}-${colorScheme}`);
      await leave(first);
    });
  }
}

test('every width in between', async () => {
  for (const account of ['admin', 'odd']) {
    const page = await visit(account);
    for (const width of [320, 480, 600, 768, 900, 1024, 1151, 1152, 1153, 1184, 1366, 1920, 2560]) {
      await page.setViewportSize({ width, height: 800 });
      await fits(page, `${account} at ${width}`);
      if (width === 1024) await shoot(page, `${account}-${width}`, { fullPage: true });
    }
    await leave(page);
  }
});
