// Everything by keyboard alone: the order of Tab, focus inside dialogs, focus given back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clipboard, dialog, leave, visit } from './browser.mjs';

const focused = (page) => page.evaluate(() => {
  const element = document.activeElement;
  return element === document.body ? 'nothing' : element.getAttribute('aria-label') || element.textContent.trim() || element.id;
});
// A dialog gives the focus back in an event of its own, a moment after it is gone.
const has = async (page, wanted, why) => {
  for (let tries = 0; tries < 100 && (await focused(page)) !== wanted; tries += 1) await page.waitForTimeout(50);
  assert.equal(await focused(page), wanted, why);
};
const type = async (page, ...keys) => {
  for (const key of keys) await page.keyboard.press(key);
};
const tabTo = async (page, wanted) => {
  for (let presses = 0; presses < 40; presses += 1) {
    if ((await focused(page)).startsWith(wanted)) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`Tab never comes to ${wanted}`);
};
const open = (page, name) => page.getByRole('dialog', { name }).waitFor();
const said = (page, text) => page.getByRole('status').filter({ hasText: text }).waitFor();

test('from the first visit to an empty list', async () => {
  const page = await visit('typist');
  await open(page, 'Your First API Key');
  await has(page, 'Copy & close');
  const first = await page.locator('#key').textContent();
  await type(page, 'Enter');
  await said(page, 'Copied.');
  assert.equal(await clipboard(page), first);
  await has(page, 'Create API key');

  // Enter in the name's field generates; a mistake is said beside the field, which has the focus.
  await type(page, 'Enter');
  await open(page, 'Create API key');
  assert.equal(await page.evaluate(() => document.activeElement.name), 'name');
  await type(page, 'Enter');
  const name = dialog(page).getByLabel('API Key Name');
  assert.equal(await name.getAttribute('aria-invalid'), 'true');
  assert.equal(await page.evaluate(() => document.activeElement.name), 'name');
  const described = await name.evaluate((input) => input.getAttribute('aria-describedby').split(' ')
    .map((id) => document.getElementById(id).textContent).join(' '));
  assert.match(described, /Give the key a name\./);
  await page.keyboard.type('Made by hand');
  await type(page, 'Enter');
  await open(page, 'API Key Created Successfully');

  // Escape does not lose the key, however long it is held down; the second one means it. Nothing outside
  // the dialog gets the focus.
  for (let repeats = 0; repeats < 3; repeats += 1) await page.keyboard.down('Escape');
  await page.keyboard.up('Escape');
  await page.getByText('The key has not been copied.').waitFor();
  for (let presses = 0; presses < 4; presses += 1) {
    await type(page, 'Tab');
    assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest('dialog')));
  }
  assert.equal(await dialog(page).count(), 1);
  await type(page, 'Escape');
  assert.equal(await dialog(page).count(), 0);
  assert.equal(await page.locator('#key').textContent(), '');
  await has(page, 'Create API key');

  // A row's actions, and back to where one was.
  await tabTo(page, 'More actions for Made by hand');
  await type(page, 'Enter');
  await type(page, 'Tab');
  await has(page, 'Rename');
  await type(page, 'Escape');
  await has(page, 'More actions for Made by hand');
  await type(page, 'Enter', 'Tab', 'Enter');
  await open(page, 'Rename key');
  await page.keyboard.type('Renamed by hand');
  await type(page, 'Enter');
  await said(page, 'is now called “Renamed by hand”');
  await has(page, 'More actions for Renamed by hand');

  // The safe answer has the focus where something would be lost.
  await page.keyboard.press('Shift+Tab');
  await has(page, 'Delete Renamed by hand');
  await type(page, 'Enter');
  await open(page, 'Delete Key');
  await has(page, 'Cancel');
  await type(page, 'Escape');
  await has(page, 'Delete Renamed by hand');
  await type(page, 'Enter', 'Tab', 'Enter');
  await said(page, '“Renamed by hand” was deleted.');
  await has(page, 'API Keys', 'what was deleted cannot have the focus back');

  await tabTo(page, 'Delete First key');
  await type(page, 'Enter', 'Tab', 'Enter');
  await said(page, '“First key” was deleted.');
  await page.getByText('You have no API keys.').waitFor();
  await leave(page);
});

test('cancelling gives the focus back', async () => {
  const page = await visit('admin');
  for (const [action, title] of [['Rename', 'Rename key'], ['Rotate', 'Rotate key'], ['Regenerate', 'Regenerate key']]) {
    await page.getByLabel('More actions for Production CRM').focus();
    await type(page, 'Enter');
    await page.locator('.menu:popover-open').getByRole('button', { name: action }).press('Enter');
    await open(page, title);
    await dialog(page).getByRole('button', { name: 'Cancel' }).press('Enter');
    assert.equal(await dialog(page).count(), 0);
    await has(page, 'More actions for Production CRM', action);
  }
  await leave(page);
});

test('whoever is quicker than the list gets the focus back', async () => {
  let release;
  const released = new Promise((resolve) => { release = resolve; });
  const before = (page) => page.route('**/console/', async (route) => {
    // The first key is there, and the list is asked for again.
    if (route.request().resourceType() === 'xhr') await released;
    return route.continue();
  });
  const page = await visit('hasty', { before });
  await open(page, 'Your First API Key');
  await type(page, 'Enter');
  await said(page, 'Copied.');
  await has(page, 'Create API key');
  release();
  await page.getByText('1 of 25 active').waitFor();
  await has(page, 'Create API key');
  await leave(page);
});
