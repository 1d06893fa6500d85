// Headless Chromium by playwright-core: visits the baseline and a preview as a person would; prints what it saw as JSON.
//
//   node browser.cjs STEP PORT PROFILE     HOME has the NSS database in which the development CA is trusted
'use strict';
const { chromium } = require('playwright-core');

const [step, port, profile] = process.argv.slice(2);
const at = (host, path = '/') => `https://${host}preview.localhost:${port}${path}`;

// What a page and its sub-resources say of who served them, and which connections carried that.
async function visit(page, url) {
  const parts = {};
  const noted = [];
  const note = (response) =>
    noted.push(response.headerValue('x-upstream').then((by) => (parts[new URL(response.url()).pathname] = by)));
  page.on('response', note);
  const answer = await page.goto(url, { waitUntil: 'load' });
  page.off('response', note);
  await Promise.all(noted);
  delete parts['/favicon.ico'];
  return {
    status: answer.status(),
    heading: await page.locator('h1').innerText(),
    script: await page.evaluate(() => document.body.dataset.script),
    parts,
  };
}

const steps = {
  // The preview and the baseline in one browser, with the physical connection of every answer.
  async coalesce(page, context) {
    const connections = new Set();
    const protocols = new Set();
    const devtools = await context.newCDPSession(page);
    await devtools.send('Network.enable');
    devtools.on('Network.responseReceived', ({ response }) => {
      if (response.fromDiskCache) return;
      connections.add(response.connectionId);
      protocols.add(response.protocol);
    });
    const preview = await visit(page, at('pr-42.'));
    const baseline = await visit(page, at(''));
    const again = await visit(page, at('pr-42.'));
    return { preview, baseline, again, connections: connections.size, protocols: [...protocols] };
  },

  // The query sets the cookie, the page's sub-resources and the next visit follow it, the empty query clears it.
  async cookie(page, context) {
    const before = await visit(page, at(''));
    // A tab keeps sub-resources in its renderer's memory, which `Clear-Site-Data` does not reach in Chromium: the
    // baseline and the preview are two tabs, so that what they share is the browser's cache.
    await page.close();
    page = await context.newPage();
    const keyed = await visit(page, at('', '/?pr-id=42'));
    const [cookie] = await context.cookies(at(''));
    const follower = await visit(page, at(''));
    const fetched = await page.evaluate(() => fetch('/who').then((answer) => answer.headers.get('x-upstream')));
    const hidden = await page.evaluate(() => document.cookie);
    const cleared = await visit(page, at('', '/?pr-id='));
    const after = await visit(page, at(''));
    const left = (await context.cookies(at(''))).length;
    return { before, keyed, cookie, follower, fetched, hidden, cleared, after, left };
  },

  // Calls to another host of the estate, one of them with a preflight, follow the page's origin.
  async origin(page) {
    await page.goto(at('pr-42.'));
    return page.evaluate(async (url) => {
      const by = async (init) => (await fetch(url, init)).headers.get('x-upstream');
      return {
        simple: await by({}),
        preflighted: await by({ method: 'PUT', headers: { 'x-custom': '1' }, body: 'hello' }).catch(String),
      };
    }, at('api.', '/cors'));
  },

  // A WebSocket from the page, to its own host and by cookie, with the status that each handshake was answered with.
  async socket(page, context) {
    const statuses = [];
    const devtools = await context.newCDPSession(page);
    await devtools.send('Network.enable');
    devtools.on('Network.webSocketHandshakeResponseReceived', ({ response }) => statuses.push(response.status));
    const talk = () =>
      page.evaluate(
        () =>
          new Promise((resolve) => {
            const seen = { heard: [] };
            const socket = new WebSocket(`wss://${location.host}/socket`);
            socket.onmessage = ({ data }) => {
              seen.heard.push(seen.heard.length ? data : JSON.parse(data).name);
              socket.send(seen.heard.length === 1 ? 'hello' : 'close 4001 done');
            };
            socket.onclose = ({ code, reason }) => resolve({ ...seen, code, reason });
          }),
      );
    await page.goto(at('pr-42.'));
    const preview = await talk();
    await page.goto(at(''));
    const baseline = await talk();
    await page.goto(at('', '/?pr-id=42'));
    const cookie = await talk();
    return { preview, baseline, cookie, statuses };
  },

  // A preview that isn't there: a page that a person can read.
  async error(page) {
    const answer = await page.goto(at('pr-404.'));
    const type = await answer.headerValue('content-type');
    return { status: answer.status(), type, text: await page.innerText('body') };
  },
};

async function main() {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.SIDETRACK_CHROMIUM,
    headless: true,
    timeout: 60_000,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--disable-quic',
      '--no-first-run',
      '--no-proxy-server',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
  try {
    const page = context.pages()[0] || (await context.newPage());
    page.setDefaultTimeout(30_000);
    console.log(JSON.stringify(await steps[step](page, context)));
  } finally {
    await context.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
