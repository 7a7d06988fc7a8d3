// What goes wrong, said in plain words; and no key is lost, or made twice, by it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base, dialog, leave, visit } from './browser.mjs';

const API = '**/console/api/api-keys';
const press = (page, name) => page.getByRole('button', { name, exact: true }).click();
const names = async (page) => (await page.locator('.name bdi').allTextContents()).sort();
const create = async (page, name) => {
  await press(page, 'Create API key');
  await dialog(page).getByLabel('API Key Name').fill(name);
  await press(page, 'Generate key');
};
const beside = async (page, field, text) => {
  await dialog(page).locator('.error').filter({ hasText: text }).waitFor();
  assert.equal(await dialog(page).getByLabel(field).getAttribute('aria-invalid'), 'true');
};
// An account whose first key was shown.
const settled = async (account) => {
  const page = await visit(account);
  await press(page, 'Copy & close');
  await page.getByText('Copied. The key').waitFor();
  return page;
};

test('mistakes are said beside their fields', async () => {
  const page = await visit('emptied');
  await create(page, '   ');
  await beside(page, 'API Key Name', 'Give the key a name.');
  await dialog(page).getByLabel('API Key Name').fill('x'.repeat(101));
  await press(page, 'Generate key');
  await beside(page, 'API Key Name', 'this one has 101');
  // What only the server knows is said there, too.
  await dialog(page).getByLabel('API Key Name').fill('Left\u202eright');
  await press(page, 'Generate key');
  await beside(page, 'API Key Name', 'no control characters');
  await dialog(page).getByLabel('API Key Name').fill('Fine');
  await page.getByText('More options').click();
  await dialog(page).getByLabel('Environment').fill('Live!');
  await press(page, 'Generate key');
  await beside(page, 'Environment', 'lower-case letters and digits');
  await dialog(page).getByLabel('Environment').fill('staging');
  await press(page, 'Generate key');
  await beside(page, 'Environment', 'one of these environments: live, test');
  await dialog(page).getByLabel('Environment').fill('live');
  await dialog(page).getByLabel('Expires').selectOption('date');
  await press(page, 'Generate key');
  await beside(page, 'Last day', 'Choose a day.');
  await dialog(page).getByLabel('Last day').fill('2020-01-01');
  await press(page, 'Generate key');
  await beside(page, 'Last day', 'not over');
  assert.deepEqual(await names(page), []);
  await leave(page, '400');
});

test('who is quicker than the script loses no click', async () => {
  const page = await visit('admin');
  await page.route('**/script.js', async (route) => {
    await new Promise((resolve) => { setTimeout(resolve, 1000); });
    return route.continue();
  });
  await page.goto(`${base}/console/`, { waitUntil: 'commit' });
  await press(page, 'Create API key');
  await page.getByRole('dialog', { name: 'Create API key' }).waitFor();
  await leave(page);
});

test('a hundred characters of emoji are a name', async () => {
  const page = await settled('emoji');
  const name = '🧑🏽‍🚀'.repeat(25);
  assert.equal([...name].length, 100);
  await create(page, name);
  await press(page, 'Copy & close');
  await page.locator('.name bdi').filter({ hasText: name }).waitFor();
  await leave(page);
});

test('a double click makes one key', async () => {
  const page = await settled('double');
  await press(page, 'Create API key');
  await dialog(page).getByLabel('API Key Name').fill('Once');
  await page.getByRole('button', { name: 'Generate key' }).dblclick();
  await page.getByText('API Key Created Successfully').waitFor();
  // Where the answer is quick, the second click falls on the button that is then there.
  await page.locator('#copy').evaluate((button) => button.dispatchEvent(new MouseEvent('click', { detail: 2, bubbles: true })));
  assert.match(await page.locator('#key').textContent(), /^acme_/);
  await press(page, 'Copy & close');
  await page.getByText('2 of 25 active').waitFor();
  assert.deepEqual(await names(page), ['First key', 'Once']);
  await leave(page);
});

test('a creation whose answer is lost is said to be unknown, and repeated makes no second key', async () => {
  const page = await settled('unlucky');
  let lost = 0;
  await page.route(API, async (route) => {
    if (route.request().method() !== 'POST' || lost > 0) return route.continue();
    lost += 1;
    await route.fetch();
    return route.abort('connectionreset');
  });
  await create(page, 'Lost');
  await dialog(page).getByRole('alert').filter({ hasText: 'never makes a second key' }).waitFor();
  await press(page, 'Generate key');
  await page.getByRole('dialog', { name: 'This key cannot be shown' }).waitFor();
  assert.equal(await page.locator('#key').textContent(), '');
  await dialog(page).getByRole('button', { name: 'Regenerate' }).click();
  await press(page, 'Regenerate key');
  await page.getByRole('dialog', { name: 'API Key Regenerated Successfully' }).waitFor();
  assert.match(await page.locator('#key').textContent(), /^acme_[0-9A-Za-z]{49}$/);
  await press(page, 'Copy & close');
  await page.getByText('2 of 25 active').waitFor();
  assert.deepEqual(await names(page), ['First key', 'Lost']);
  await leave(page, 'ERR_CONNECTION_RESET', 'Failed to fetch');
});

test('a creation that never got there is repeated as it was', async () => {
  const page = await settled('offline');
  await page.context().setOffline(true);
  await create(page, 'Patient');
  await dialog(page).getByRole('alert').filter({ hasText: 'No answer came' }).waitFor();
  await page.context().setOffline(false);
  await press(page, 'Generate key');
  await page.getByRole('dialog', { name: 'API Key Created Successfully' }).waitFor();
  await press(page, 'Copy & close');
  await page.getByText('2 of 25 active').waitFor();
  await leave(page, 'ERR_INTERNET_DISCONNECTED');
});

test('a clipboard that is refused does not lose the key', async () => {
  const page = await visit('refused');
  await page.context().clearPermissions();
  await page.evaluate(() => {
    navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError'));
  });
  await page.getByText('Your First API Key').waitFor();
  const secret = await page.locator('#key').textContent();
  await press(page, 'Copy & close');
  await dialog(page).getByRole('alert').filter({ hasText: 'did not let the page copy' }).waitFor();
  assert.equal(await page.locator('#key').textContent(), secret);
  assert.equal(await page.evaluate(() => getSelection().toString()), secret, 'it is selected');
  await press(page, 'Close');
  assert.equal(await dialog(page).count(), 0);
  assert.equal(await page.locator('#key').textContent(), '');
  await leave(page);
});

test('the cap is said before and after it is tried', async () => {
  const page = await visit('full');
  await page.getByText('You have 25 active keys, the most that an account can have.').waitFor();
  assert.ok(await page.getByRole('button', { name: 'Create API key' }).isDisabled());
  await press(page, 'More actions for Integration 1');
  await page.locator('.menu:popover-open').getByRole('button', { name: 'Rotate' }).click();
  await press(page, 'Rotate key');
  await dialog(page).getByRole('alert').filter({ hasText: 'at most 25 active API keys' }).waitFor();
  await leave(page, '409');
});

test('a key that was deleted elsewhere is said to be gone', async () => {
  const [page, other] = [await settled('twice'), await visit('twice')];
  await other.getByRole('button', { name: 'Delete First key' }).click();
  await press(other, 'Delete key');
  await other.getByText('“First key” was deleted.').waitFor();
  await press(page, 'Delete First key');
  await press(page, 'Delete key');
  await page.getByText('This key is not there any more').waitFor();
  await page.getByText('You have no API keys.').waitFor();
  await leave(other);
  await leave(page, '404');
});

test('a session that has ended is said, and nothing is changed', async () => {
  const page = await visit('admin');
  const before = await names(page);
  await press(page, 'Delete Production CRM');
  await page.context().clearCookies();
  await press(page, 'Delete key');
  await page.getByRole('dialog', { name: 'Your session has ended' }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Sign in');
  // Nothing of the account is left behind the dialog, nor in the others.
  const left = await page.evaluate(() => [document.documentElement.outerHTML, ...[...document.querySelectorAll('input')].map((input) => input.value)].join());
  for (const name of [...before, 'admin@example.com', 'acme_']) {
    // One of the names is an example on the page.
    assert.equal(left.split(name).length - 1, name === 'Production CRM' ? 1 : 0, `${name} is still there`);
  }
  const again = await visit('admin');
  assert.deepEqual(await names(again), before);
  await leave(again);
  await leave(page, '401');
});

test('a server that is down says so, and the page goes on', async () => {
  const page = await settled('patient');
  await page.route(API, (route) => (route.request().method() === 'POST'
    ? route.fulfill({ status: 503, contentType: 'application/json', body: '{"type":"api_error","message":"x"}' })
    : route.continue()));
  await create(page, 'Later');
  await dialog(page).getByRole('alert').filter({ hasText: 'The server cannot do this just now.' }).waitFor();
  assert.equal(await dialog(page).getByLabel('API Key Name').inputValue(), 'Later', 'what was typed is still there');
  await page.unroute(API);
  await press(page, 'Generate key');
  await page.getByText('API Key Created Successfully').waitFor();
  await press(page, 'Copy & close');
  await leave(page, '503');

  const down = await visit('admin', { path: '/broken/' });
  await down.getByText('Your keys cannot be shown just now.').waitFor();
  await leave(down, '503');
});

test('the policy forbids what is not of the page', async () => {
  const page = await visit('admin');
  const ran = await page.evaluate(() => {
    const attempts = {
      handler: () => document.body.setAttribute('onclick', 'window.ran = true'),
      script: () => document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = true' })),
      markup: () => document.body.insertAdjacentHTML('beforeend', '<b id="ran"></b>'),
      style: () => document.body.setAttribute('style', 'color: red'),
    };
    for (const attempt of Object.values(attempts)) {
      try { attempt(); } catch { /* Refused outright. */ }
    }
    document.body.click();
    return [window.ran, document.getElementById('ran'), document.body.style.color];
  });
  assert.deepEqual(ran, [undefined, null, '']);
  assert.equal(await page.evaluate((url) => fetch(url).then(() => 'read', () => 'refused'), base.replace('localhost', '127.0.0.1')), 'refused');
  await page.context().close();
});
