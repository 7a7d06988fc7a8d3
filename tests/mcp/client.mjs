// A client of the example server's /mcp, as anybody would write one with the official SDK. It says what
// happens on stdout, a JSON object a line; tests/it/mcp/typescript.rs reads it and deletes the key.
//
//     MCP_HEADER='API-Key: …' NODE_EXTRA_CA_CERTS=server-data/cert.pem node client.mjs https://127.0.0.1:8443/mcp

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const say = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));

const url = new URL(process.argv[2]);
const [name, value] = process.env.MCP_HEADER.split(/: (.*)/s);

// Looks on as streams open and end; what goes through is not touched.
let standing = () => {};
const isStanding = new Promise((resolve) => (standing = resolve));
let watching = false;
const fetchAndLookOn = async (target, init) => {
  const response = await fetch(target, init);
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream');
  if (!response.ok || !isStream || !response.body) return response;
  const method = init.method;
  if (method === 'GET') standing();
  const body = response.body.pipeThrough(
    new TransformStream({ flush: () => { if (watching) say('ended', { method }); } }),
  );
  return new Response(body, { status: response.status, headers: response.headers });
};

const refused = (error) => say('refused', { status: error.code ?? null, message: error.message });

const client = new Client({ name: 'typescript-client', version: '1.0.0' });
const transport = new StreamableHTTPClientTransport(url, {
  requestInit: { headers: { [name]: value } },
  fetch: fetchAndLookOn,
});
try {
  await client.connect(transport);
} catch (error) {
  refused(error);
  process.exit(0);
}
say('initialised', { server: client.getServerVersion(), has_session: Boolean(transport.sessionId) });

const { tools } = await client.listTools();
say('tools', { names: tools.map((tool) => tool.name) });
const called = await client.callTool({ name: 'test_key', arguments: {} });
say('called', { result: called.structuredContent });
const wrong = await client.callTool({ name: 'list_bookings', arguments: { limit: 1000 } });
say('wrong', { result: wrong.structuredContent, is_error: wrong.isError });

// A standing stream, and a call that takes a minute.
watching = true;
let progressed = () => {};
const hasProgressed = new Promise((resolve) => (progressed = resolve));
const long = client.callTool({ name: 'wait', arguments: { seconds: 60 } }, undefined, { onprogress: () => progressed() });
long.catch(() => {});
await Promise.all([isStanding, hasProgressed]);
say('streaming');

// Until the streams end, because the key is deleted; then the next call.
const failed = new Promise((resolve) => (client.onerror = resolve));
await failed;
try {
  await client.callTool({ name: 'test_key', arguments: {} });
  say('accepted');
} catch (error) {
  refused(error);
}
process.exit(0);
