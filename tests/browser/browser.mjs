// What the scripts share: a Chromium, pages of an account, and how a state is examined.
import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after } from 'node:test';
import { chromium } from 'playwright-core';

export const base = process.env.BASE;
const folder = process.env.SCREENSHOTS;
const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export const PHONE = { width: 390, height: 844 };
export const DESKTOP = { width: 1280, height: 800 };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
after(() => browser.close());

// A signed-in page. Whatever the console complains of, or the policy refuses, fails the test.
export async function visit(account, { path = '/console/', complaints = [], before = () => {}, ...options } = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: DESKTOP, locale: 'en-GB', ...options });
  context.setDefaultTimeout(30000);
  if (account) await context.addCookies([{ name: 'account', value: account, url: base }]);
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: base });
  const page = await context.newPage();
  page.complaints = complaints;
  page.on('console', (message) => {
    if (message.type() === 'error' && !message.location().url.endsWith('/favicon.ico')) page.complaints.push(message.text());
  });
  page.on('pageerror', (error) => page.complaints.push(String(error)));
  await before(page);
  await page.goto(base + path);
  return page;
}

// Done with a page: nothing may have been complained of but what was expected.
export async function leave(page, ...expected) {
  const unexpected = page.complaints.filter((text) => !expected.some((part) => text.includes(part)));
  await page.context().close();
  assert.deepEqual(unexpected, []);
}

// axe's rules, for all of WCAG 2.2 AA and good practice; and nothing is wider than the window.
export async function examine(page, name) {
  // A button that was enabled just now is still on its way to its colour.
  await page.evaluate(() => Promise.allSettled(document.getAnimations().map(({ finished }) => finished)));
  // Axe is put in by the debugger, which the page's policy does not bind.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
  const found = violations.map(({ id, help, nodes }) => ({ id, help, where: nodes.map((node) => node.html) }));
  assert.deepEqual(found, [], name);
  await fits(page, name);
}

// Nothing is wider than the window, and nothing in a card is wider than the card.
export async function fits(page, name) {
  const wider = await page.evaluate(() => [document.documentElement, ...document.querySelectorAll('.card')]
    .map((element) => element.scrollWidth - element.clientWidth));
  assert.ok(wider.every((pixels) => pixels <= 0), `${name}: ${wider} px too wide`);
}

export async function shoot(page, name, options = {}) {
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: `${folder}/${name}.png`, animations: 'disabled', ...options });
}

export const dialog = (page) => page.locator('dialog[open]');

// What the clipboard has, read where the page's policy does not forbid reading.
export async function clipboard(page) {
  const other = await page.context().newPage();
  await other.goto(`${base}/elsewhere`);
  const text = await other.evaluate(() => navigator.clipboard.readText());
  await other.close();
  await page.bringToFront();
  return text;
}
