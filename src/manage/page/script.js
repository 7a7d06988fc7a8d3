// What the page does: opens dialogs, calls the API beneath it, and puts the fresh list in place.
// A key is only ever in the element #key, while its dialog is open.
'use strict';

const $ = (selector, within = document) => within.querySelector(selector);
const list = () => $('#list');
const created = $('#created');
const key = $('#key');
const copy = $('#copy');

const UNKNOWN = 'No answer came from the server, so it is not known whether this was done. Check your connection, then try again.';
const UNKNOWN_CREATION = 'No answer came from the server. Check your connection and press Generate key again: that never makes a second key.';
const BROKEN = 'The server cannot do this just now. Try again in a moment.';
const GONE = 'This key is not there any more: it was deleted elsewhere.';

// The key that a dialog is about, and the element that opened it.
let subject = {};
let opener = '';
// Names an attempt to make a key, so that repeating it makes no second one.
let attempt = {};
// Whether the session has ended, which is said when the key that is shown is gone.
let over = false;

// ---- Calls

// Resolves to the status and the body; to nothing when the session has ended.
async function call(method, path, body, headers = {}) {
  const answer = await fetch(path, {
    method,
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
    cache: 'no-store',
    redirect: 'manual',
    signal: AbortSignal.timeout(30000),
  });
  if (answer.status === 401 || answer.type === 'opaqueredirect') return ended();
  return { status: answer.status, ok: answer.ok, body: await answer.json().catch(() => ({})) };
}

function ended() {
  over = true;
  if (key.textContent) return; // The key first.
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  // What was the account's goes with the session.
  subject = {};
  attempt = {};
  say('');
  for (const form of document.querySelectorAll('form')) form.reset();
  for (const place of [list(), ...document.querySelectorAll('.account, [data-subject]')]) place.replaceChildren();
  $('#ended').showModal();
}

// The page again, as a document. (A string of markup could not be used: the policy forbids it.)
const load = () => new Promise((done, fail) => {
  const request = new XMLHttpRequest();
  request.open('GET', location.pathname);
  request.responseType = 'document';
  request.timeout = 30000;
  request.onload = () => done(request.response);
  request.onerror = request.ontimeout = fail;
  request.send();
});

async function refresh() {
  const fresh = await load().then((page) => page && $('#list', page), () => false);
  if (over || fresh === null) return ended();
  if (!fresh) return say('The list below may be out of date: the server did not answer.');
  const focused = document.activeElement.id;
  list().replaceWith(fresh);
  localise();
  if (focused && document.activeElement === document.body) giveBack(focused);
}

// ---- Words

function say(text) {
  $('#said').textContent = over ? '' : text;
}

// Puts times, which the server writes in UTC, into the reader's zone.
function localise() {
  const day = { day: 'numeric', month: 'short', year: 'numeric' };
  const minute = { ...day, hour: '2-digit', minute: '2-digit' };
  for (const time of document.querySelectorAll('time')) {
    const at = new Date(time.dateTime);
    const format = time.classList.contains('minute') ? minute : day;
    time.textContent = at.toLocaleString('en-GB', format);
    time.title = at.toLocaleString('en-GB', { dateStyle: 'full', timeStyle: 'long' });
  }
}

function complain(dialog, message, param) {
  const field = param && dialog.querySelector(`[name="${CSS.escape(param)}"]`);
  if (!field) {
    $('.problem', dialog).textContent = message;
    return;
  }
  const details = field.closest('details');
  if (details) details.open = true;
  field.setAttribute('aria-invalid', 'true');
  $('.error', field.closest('.field')).textContent = message;
  field.focus();
}

function calm(dialog) {
  for (const place of dialog.querySelectorAll('.problem, .error')) place.textContent = '';
  for (const field of dialog.querySelectorAll('[aria-invalid]')) field.removeAttribute('aria-invalid');
}

// ---- Dialogs

function open(id) {
  const dialog = $('#' + id);
  const form = $('form', dialog);
  say('');
  calm(dialog);
  form?.reset();
  for (const place of dialog.querySelectorAll('[data-subject]')) place.textContent = subject.name;
  if (id === 'create') {
    attempt = {};
    $('details', dialog).open = false;
    chooseExpiry();
  }
  if (id === 'rename') form.elements.name.value = subject.name;
  dialog.showModal();
  if (id === 'rename') form.elements.name.select();
}

// Gives the focus back to what opened the dialog, or to the heading when that is gone.
function giveBack(id = opener) {
  if ($('dialog[open]')) return;
  const element = document.getElementById(id);
  (element && !element.disabled ? element : $('#api-keys'))?.focus();
}

function chooseExpiry() {
  $('#create-date-field').hidden = $('#create-expiry').value !== 'date';
}

document.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if ('close' in button.dataset) {
    const dialog = button.closest('dialog');
    if (!dialog.dataset.busy) dialog.close();
  }
  const { action } = button.dataset;
  if (!action) return;
  const row = button.closest('[data-id]');
  if (row) subject = { id: row.dataset.id, name: row.dataset.name };
  opener = button.id || (row ? `more-${subject.id}` : opener);
  button.closest('[popover]')?.hidePopover();
  button.closest('dialog')?.close();
  open(action);
});

// What each dialog sends: method, path, body.
const requests = {
  create: (form) => ['POST', '', creation(form)],
  rename: (form) => ['PATCH', `/${subject.id}`, { name: form.elements.name.value.trim() }],
  rotate: (form) => ['POST', `/${subject.id}/rotate`, { grace_seconds: Number(form.elements.grace_seconds.value) }],
  regenerate: () => ['POST', `/${subject.id}/regenerate`, {}],
  delete: () => ['DELETE', `/${subject.id}`],
};

function creation(form) {
  const { name, environment, expiry, expires_at: date } = form.elements;
  const body = { name: name.value.trim() };
  if (environment?.value.trim()) body.environment = environment.value.trim();
  if (expiry.value === 'date' && date.value) {
    const [year, month, day] = date.value.split('-').map(Number);
    body.expires_at = new Date(year, month - 1, day + 1).toISOString();
  } else if (expiry.value !== 'date' && expiry.value) {
    body.expires_at = new Date(Date.now() + expiry.value * 86400000).toISOString();
  }
  return body;
}

// Beside the field, before anything is sent. The server looks again.
function mistake(form) {
  const { name, environment, expiry, expires_at: date } = form.elements;
  if (name) {
    const length = [...name.value.trim()].length;
    if (!length) return ['Give the key a name.', 'name'];
    if (length > 100) return [`A name has at most 100 characters; this one has ${length}.`, 'name'];
  }
  if (environment && !/^[a-z0-9]{0,16}$/.test(environment.value.trim())) {
    return ['Up to 16 lower-case letters and digits.', 'environment'];
  }
  if (expiry?.value === 'date') {
    if (!date.value) return ['Choose a day.', 'expires_at'];
    if (new Date(`${date.value}T23:59:59`) < Date.now()) return ['Choose a day that is not over.', 'expires_at'];
  }
  return null;
}

async function submit(dialog) {
  const form = $('form', dialog);
  const [method, path, body] = requests[dialog.id](form);
  const headers = {};
  if (dialog.id === 'create') {
    // The same key for the same wish, however often it is sent; the expiry moves with the clock.
    const wish = JSON.stringify([body.name, body.environment, form.elements.expiry.value, form.elements.expires_at.value]);
    if (attempt.wish !== wish) attempt = { wish, body, id: crypto.randomUUID() };
    headers['Idempotency-Key'] = attempt.id;
  }
  const answer = await call(method, `api/api-keys${path}`, attempt.wish && dialog.id === 'create' ? attempt.body : body, headers);
  if (!answer) return;
  if (answer.ok) return done(dialog, answer.body);
  if (answer.status === 404) {
    dialog.close();
    await refresh();
    return say(GONE);
  }
  if (answer.status === 409) refresh();
  complain(dialog, answer.status < 500 && answer.body.message || BROKEN, answer.body.param);
}

const titles = {
  create: 'API Key Created Successfully',
  rotate: 'API Key Rotated Successfully',
  regenerate: 'API Key Regenerated Successfully',
};

function done(dialog, body) {
  const { id } = dialog;
  if (titles[id]) {
    const fresh = refresh();
    show(titles[id], body);
    dialog.close();
    return fresh;
  }
  const before = subject.name;
  dialog.close();
  return refresh().then(() => {
    giveBack();
    say(id === 'delete'
      ? `“${before}” was deleted. Applications that used it have lost access.`
      : `“${before}” is now called “${body.name}”.`);
  });
}

document.addEventListener('submit', async (event) => {
  const dialog = event.target.closest('dialog');
  if (!requests[dialog?.id]) return;
  event.preventDefault();
  if (dialog.dataset.busy) return;
  calm(dialog);
  const wrong = mistake(event.target);
  if (wrong) return complain(dialog, ...wrong);
  const button = $('[type=submit]', dialog);
  const label = button.textContent;
  dialog.dataset.busy = 'true';
  button.setAttribute('aria-disabled', 'true');
  button.textContent = button.dataset.busy;
  try {
    await submit(dialog);
  } catch {
    complain(dialog, dialog.id === 'create' ? UNKNOWN_CREATION : UNKNOWN);
    refresh();
  } finally {
    delete dialog.dataset.busy;
    button.removeAttribute('aria-disabled');
    button.textContent = label;
  }
});

for (const dialog of document.querySelectorAll('dialog')) {
  dialog.addEventListener('close', () => giveBack());
  dialog.addEventListener('cancel', (event) => {
    if (dialog.dataset.busy) event.preventDefault();
  });
}
$('#create-expiry').addEventListener('change', chooseExpiry);

// ---- The only sight of a key

function show(title, body) {
  subject = { id: body.id, name: body.name };
  if (!body.api_key) return open('lost');
  $('#created-title').textContent = title;
  key.textContent = body.api_key;
  delete body.api_key;
  warned('', '');
  open('created');
}

// What stands between the owner and closing: nothing yet, a refused copy, or an Escape. The next
// press means it.
function warned(reason, message) {
  created.dataset.warned = reason;
  copy.textContent = reason === 'refused' ? 'Close' : 'Copy & close';
  $('.problem', created).textContent = message;
}

function forget(message) {
  key.textContent = '';
  warned('', '');
  getSelection().removeAllRanges();
  created.close();
  say(message);
  if (over) ended();
}

// The second half of a double click on Generate key, or Enter held down on it, is not meant for this.
copy.addEventListener('keydown', (event) => {
  if (event.repeat) event.preventDefault();
});
copy.addEventListener('click', async (event) => {
  if (event.detail > 1) return;
  if (created.dataset.warned === 'refused') return forget('');
  try {
    await navigator.clipboard.writeText(key.textContent);
    forget('Copied. The key is not on this page any more.');
  } catch {
    getSelection().selectAllChildren(key);
    warned('refused', 'Your browser did not let the page copy. The key is selected: copy it yourself, then press Close.');
  }
});

function leave(event) {
  event.preventDefault();
  if (event.repeat) return; // A key held down means nothing more than once.
  if (created.dataset.warned) return forget('');
  warned('leaving', 'The key has not been copied. Copy it first, or press Escape again to close without it, for good.');
}
created.addEventListener('cancel', leave);
created.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') leave(event);
});

addEventListener('beforeunload', (event) => {
  if (key.textContent) event.preventDefault();
});
// What a browser keeps to go back to has no key in it, and is not shown before it was asked for again.
addEventListener('pagehide', () => {
  forget('');
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
});
addEventListener('pageshow', (event) => {
  if (event.persisted) location.reload();
});

// ---- The first visit

// Nothing else is made meanwhile: two keys at once could not both be shown.
async function first() {
  const button = $('#create-key');
  say('Making your first key…');
  button.disabled = true;
  try {
    // Enabled before the fresh list is there: who is quick gets the focus back to it.
    const answer = await call('POST', 'first-key', {}).finally(() => { button.disabled = false; });
    if (answer?.status === 201) {
      opener = button.id;
      show('Your First API Key', answer.body);
    }
    say('');
    if (answer?.ok) await refresh();
    else if (answer) say('Your first key could not be made just now. Press Create API key to make one.');
  } catch {
    say(UNKNOWN);
  }
}

localise();
if ('first' in list().dataset) {
  if (document.prerendering) document.addEventListener('prerenderingchange', first, { once: true });
  else first();
}
