// The example server's console: signing in and out, and the page behind it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base, examine, leave, shoot, visit, DESKTOP, PHONE } from './browser.mjs';

const press = (page, name) => page.getByRole('button', { name, exact: true }).click();
const signIn = async (page, password) => {
  await page.getByLabel('Password').fill(password);
  await press(page, 'Sign in');
};

test('signing in, making a key that works, signing out', async () => {
  const page = await visit(null);
  for (const [width, viewport] of Object.entries({ phone: PHONE, desktop: DESKTOP })) {
    await page.setViewportSize(viewport);
    await examine(page, 'sign-in');
    await shoot(page, `sign-in-${width}`);
  }
  await signIn(page, 'not the password');
  await page.getByText('This is not the password.').waitFor();
  assert.equal(await page.getByLabel('Password').getAttribute('aria-invalid'), 'true');
  assert.equal(await page.getByLabel('Password').inputValue(), '', 'it is not sent back');
  await examine(page, 'sign-in, wrong');
  await shoot(page, 'sign-in-wrong');
  await signIn(page, process.env.PASSWORD);
  await page.getByText('1 of 25 active').waitFor();
  assert.equal(page.url(), `${base}/console/`);
  const [cookie] = await page.context().cookies();
  const { name, path, secure, httpOnly, sameSite, expires } = cookie;
  assert.deepEqual({ name, path, secure, httpOnly, sameSite, expires },
    { name: '__Host-session', path: '/', secure: true, httpOnly: true, sameSite: 'Strict', expires: -1 });

  await press(page, 'Create API key');
  await page.getByRole('dialog').getByLabel('API Key Name').fill('Made in the console');
  await press(page, 'Generate key');
  await page.getByText('API Key Created Successfully').waitFor();
  const key = await page.locator('#key').textContent();
  await press(page, 'Copy & close');
  await page.getByText('Copied. The key').waitFor();
  assert.equal(await page.evaluate(() => document.querySelector('dialog[open]')), null);
  await page.getByText('2 of 25 active').waitFor();
  const ask = () => page.context().request.get(`${base}/v2/test`, { headers: { 'API-Key': key } });
  assert.equal((await ask()).status(), 200);
  await press(page, 'Delete Made in the console');
  await press(page, 'Delete key');
  await page.getByText('“Made in the console” was deleted.').waitFor();
  assert.equal((await ask()).status(), 401);
  await examine(page, 'console');

  const other = await page.context().newPage();
  await other.goto(`${base}/console/`);
  await press(other, 'Sign out');
  await other.getByLabel('Password').waitFor();
  assert.deepEqual(await page.context().cookies(), []);
  // What the signed-out session is shown: that it is over.
  await press(page, 'Create API key');
  await page.getByRole('dialog').getByLabel('API Key Name').fill('Too late');
  await press(page, 'Generate key');
  await page.getByRole('dialog', { name: 'Your session has ended' }).waitFor();
  assert.equal(await page.getByText('First key').count(), 0, 'the list is gone with the session');
  await page.getByRole('link', { name: 'Sign in' }).click();
  await page.getByLabel('Password').waitFor();
  await other.goBack();
  await other.getByLabel('Password').waitFor();
  // The old cookie opens nothing any more.
  await page.context().addCookies([cookie]);
  await page.reload();
  await page.getByLabel('Password').waitFor();
  await leave(page, '401');
});
