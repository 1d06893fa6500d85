// A WebSocket client of the `ws` library: says text and binary, pings, asks for a close; prints what it saw as JSON.
//
//   node socket.cjs URL HOST COOKIE CA_FILE
'use strict';
const fs = require('node:fs');
const WebSocket = require('ws');

const [url, host, cookie, ca] = process.argv.slice(2);
const seen = {};
const headers = { host: `${host}:${new URL(url).port}`, ...(cookie && { cookie }) };
const socket = new WebSocket(url, { headers, servername: host, ca: fs.readFileSync(ca) });

// Each answer leads to the next thing to say.
const steps = [
  (data) => {
    seen.server = JSON.parse(data).name;
    socket.send('text');
  },
  (data) => {
    seen.text = data.toString();
    socket.send(Buffer.from([0x00, 0xff, 0x80]));
  },
  (data) => {
    seen.binary = data.toString('hex');
    socket.ping('client');
  },
];
socket.on('message', (data) => steps.shift()(data));
socket.on('pong', (data) => {
  seen.ponged = data.toString() === 'client';
  socket.send('close 4010 enough');
});
socket.on('close', (code, reason) => {
  seen.close = [code, reason.toString()];
  console.log(JSON.stringify(seen));
});
setTimeout(() => {
  console.error(`stuck after ${JSON.stringify(seen)}`);
  process.exit(1);
}, 30_000).unref();
