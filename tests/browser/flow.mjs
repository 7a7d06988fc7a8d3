// The whole flow with a mouse: a key is made, shown once and copied, and then it is nowhere: not in the
// document, not after a reload, not on the way back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base, clipboard, dialog, leave, visit } from './browser.mjs';

const press = (page, name) => page.getByRole('button', { name, exact: true }).click();
const key = (page) => page.locator('#key').textContent();
const said = (page, text) => page.getByRole('status').filter({ hasText: text }).waitFor();
const row = (page, name) => page.getByRole('row').filter({ has: page.getByRole('rowheader', { name }) });
const more = async (page, name, action) => {
  await press(page, `More actions for ${name}`);
  await page.locator('.menu:popover-open').getByRole('button', { name: action }).click();
};

// Everything that the page has or keeps of its own.
async function hasNowhere(page, secret) {
  const kept = await page.evaluate(() => JSON.stringify([
    document.documentElement.outerHTML, [...document.querySelectorAll('input')].map((input) => input.value),
    location.href, history.state, { ...localStorage }, { ...sessionStorage }, document.title, getSelection().toString(),
  ]));
  assert.ok(!kept.includes(secret), 'the key is still there');
}

test('a key is made, copied, and gone', async () => {
  const page = await visit('emptied');
  await page.getByText('You have no API keys.').waitFor();
  await page.getByText('0 of 25 active').waitFor();
  await press(page, 'Create API key');
  await page.getByRole('dialog', { name: 'Create API key' }).waitFor();
  await dialog(page).getByLabel('API Key Name').fill('  Production CRM ');
  await page.getByText('More options').click();
  await dialog(page).getByLabel('Environment').fill('live');
  await dialog(page).getByLabel('Expires').selectOption('90');
  await press(page, 'Generate key');
  await page.getByRole('dialog', { name: 'API Key Created Successfully' }).waitFor();
  await page.getByText('It is shown only once.').waitFor();
  const secret = await key(page);
  assert.match(secret, /^acme_live_[0-9A-Za-z]{49}$/);
  await press(page, 'Copy & close');
  await said(page, 'Copied.');
  assert.equal(await dialog(page).count(), 0);
  assert.equal(await clipboard(page), secret);
  await hasNowhere(page, secret);

  const made = row(page, 'Production CRM');
  await made.getByText('Active').waitFor();
  assert.ok((await made.textContent()).includes(secret.slice(-4)), 'the hint');
  await page.getByText('1 of 25 active').waitFor();
  await page.reload();
  await made.waitFor();
  await hasNowhere(page, secret);
  await page.goto(`${base}/elsewhere`);
  await page.goBack();
  await made.waitFor();
  assert.equal(await dialog(page).count(), 0);
  await hasNowhere(page, secret);
  await leave(page);
});

test('leaving the page with the key still shown takes it off the page', async () => {
  const page = await visit('leaver');
  const asked = [];
  page.on('dialog', (question) => {
    asked.push(question.type());
    question.accept();
  });
  await page.getByText('Your First API Key').waitFor();
  const secret = await key(page);
  await page.locator('#created-title').click(); // Browsers ask only somebody who was there.
  await page.goto(`${base}/elsewhere`);
  assert.deepEqual(asked, ['beforeunload']);
  await page.goBack();
  await row(page, 'First key').waitFor();
  assert.equal(await dialog(page).count(), 0);
  await hasNowhere(page, secret);
  await page.reload();
  await row(page, 'First key').waitFor();
  assert.equal(await dialog(page).count(), 0, 'a second visit makes no second key');
  await page.getByText('1 of 25 active').waitFor();
  await leave(page);
});

test('what a browser keeps to go back to has no key in it', async () => {
  const page = await visit('keeper');
  await page.getByText('Your First API Key').waitFor();
  const secret = await key(page);
  // As a browser does that keeps the document: it hides it, and shows the same one again.
  await page.evaluate(() => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })));
  await hasNowhere(page, secret);
  assert.equal(await dialog(page).count(), 0);
  const again = page.waitForEvent('load');
  await page.evaluate(() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })));
  await again;
  await row(page, 'First key').waitFor();
  await leave(page);
});

test('rename, rotate, regenerate, delete', async () => {
  const page = await visit('changer');
  await press(page, 'Copy & close');
  await said(page, 'Copied.');
  await more(page, 'First key', 'Rename');
  assert.equal(await dialog(page).getByLabel('API Key Name').inputValue(), 'First key');
  await dialog(page).getByLabel('API Key Name').fill('Exporter');
  await press(page, 'Save name');
  await said(page, '“First key” is now called “Exporter”.');

  await more(page, 'Exporter', 'Regenerate');
  await page.getByText('Any application using the present key will immediately lose access').waitFor();
  await press(page, 'Regenerate key');
  await page.getByRole('dialog', { name: 'API Key Regenerated Successfully' }).waitFor();
  const second = await key(page);
  await press(page, 'Copy & close');
  await said(page, 'Copied.');
  assert.equal(await clipboard(page), second);
  await page.getByText('1 of 25 active').waitFor();

  await more(page, 'Exporter', 'Rotate');
  await dialog(page).getByLabel('The old key goes on working for').selectOption('3600');
  await press(page, 'Rotate key');
  await page.getByRole('dialog', { name: 'API Key Rotated Successfully' }).waitFor();
  const third = await key(page);
  assert.notEqual(third, second);
  await press(page, 'Copy & close');
  await page.getByText('Replaced, works until').waitFor();
  await page.getByText('2 of 25 active').waitFor();

  const old = row(page, 'Exporter').filter({ hasText: 'Replaced' });
  await old.getByRole('button', { name: 'Delete Exporter' }).click();
  await page.getByRole('dialog', { name: 'Delete Key' }).waitFor();
  await page.getByText('Any application using this key will immediately lose access.').waitFor();
  await press(page, 'Cancel');
  await page.getByText('2 of 25 active').waitFor();
  await old.getByRole('button', { name: 'More actions for Exporter' }).click();
  await press(page, 'Finish rotation now');
  await page.getByRole('dialog', { name: 'Delete Key' }).waitFor();
  await press(page, 'Delete key');
  await said(page, '“Exporter” was deleted.');
  await page.getByText('1 of 25 active').waitFor();
  await hasNowhere(page, third);
  await leave(page);
});

test('a name is text, whatever it looks like', async () => {
  const page = await visit('odd');
  const name = `<script>alert(1)</script><b onmouseover=alert(2)>"'&amp;</b>`;
  assert.equal(await page.locator('.name bdi').filter({ hasText: 'alert' }).textContent(), name);
  await page.getByRole('button', { name: `Delete ${name}` }).click();
  assert.equal(await page.locator('#delete [data-subject]').textContent(), name);
  assert.equal(await page.locator('main b, main script').count(), 0);
  await leave(page);
});
