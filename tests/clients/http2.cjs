// Node's own HTTP/2 client: many hosts and one WebSocket (RFC 8441) on a single connection; prints what it saw as JSON.
//
//   node http2.cjs PORT CA_FILE
'use strict';
const fs = require('node:fs');
const http2 = require('node:http2');

const [port, ca] = process.argv.slice(2);
const domain = 'preview.localhost';
const session = http2.connect(`https://${domain}:${port}`, {
  ca: fs.readFileSync(ca),
  lookup: (host, options, found) => found(null, options.all ? [{ address: '127.0.0.1', family: 4 }] : '127.0.0.1', 4),
});
session.on('error', fail);
setTimeout(() => fail(new Error('stuck')), 30_000).unref();

function fail(error) {
  console.error(error);
  process.exit(1);
}

// One request on the shared connection; resolves to who answered it.
function ask(host, more = {}) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':authority': `${host}:${port}`, ':path': '/who', ...more });
    stream.on('response', (headers) => resolve(headers['x-upstream'] || headers[':status']));
    stream.on('error', reject);
    stream.resume();
  });
}

// Opens a WebSocket by extended CONNECT, and says one masked text frame; resolves to the payloads of two frames.
function socket(host) {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':scheme': 'https',
      ':authority': `${host}:${port}`,
      ':path': '/socket',
      'sec-websocket-version': '13',
    });
    let bytes = Buffer.alloc(0);
    const frames = [];
    stream.on('response', (headers) => {
      if (headers[':status'] !== 200) return reject(new Error(`CONNECT was answered with ${headers[':status']}`));
      // FIN + text, masked with zeros: the payload stays readable.
      stream.write(Buffer.concat([Buffer.from([0x81, 0x85, 0, 0, 0, 0]), Buffer.from('hello')]));
    });
    stream.on('data', (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      for (let frame = take(bytes); frame; frame = take(bytes)) {
        frames.push(frame.payload);
        bytes = frame.rest;
      }
      if (frames.length === 2) {
        stream.close();
        resolve(frames);
      }
    });
    stream.on('error', reject);
  });
}

// One unmasked frame from the front of `bytes`, if it is whole.
function take(bytes) {
  if (bytes.length < 2) return null;
  const wide = bytes[1] === 126;
  if (wide && bytes.length < 4) return null;
  const start = wide ? 4 : 2;
  const size = wide ? bytes.readUInt16BE(2) : bytes[1];
  if (bytes.length < start + size) return null;
  return { payload: bytes.subarray(start, start + size).toString(), rest: bytes.subarray(start + size) };
}

session.once('remoteSettings', async (settings) => {
  try {
    const hosts = [domain, `pr-42.${domain}`, `api.${domain}`, `api--pr-42.${domain}`, `pr-57--api.${domain}`];
    const answers = await Promise.all(hosts.map((host) => ask(host)));
    const keyed = await ask(domain, { 'x-pr-id': '42' });
    const [hello, echo] = await socket(`pr-42.${domain}`);
    const open = settings.enableConnectProtocol;
    console.log(JSON.stringify({ answers, keyed, socket: JSON.parse(hello).name, echo, open }));
    session.close();
  } catch (error) {
    fail(error);
  }
});
