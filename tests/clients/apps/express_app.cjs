// A service as users of a framework have it: Express and fetch's older sister, and not a word about context. With
// `--require ./instrumented.cjs` it is traced. SERVICE, VERSION, LISTEN and CALLS are those of chain.py.
'use strict';
const http = require('node:http');
const express = require('express');

const { SERVICE, VERSION, LISTEN, CALLS } = process.env;
const [host, port] = LISTEN.split(':');

const get = (url) =>
  new Promise((resolve, reject) => {
    http
      .get(url, (reply) => {
        let text = '';
        reply.on('data', (piece) => (text += piece));
        reply.on('end', () => resolve({ status: reply.statusCode, answer: JSON.parse(text) }));
      })
      .on('error', reject);
  });

const app = express();
app.get('/chain', async (request, reply) => {
  const calls = [];
  for (const [service, base] of Object.entries(JSON.parse(CALLS))) {
    if (service !== SERVICE) calls.push({ service, ...(await get(`${base}/chain`)) });
  }
  reply.json({ service: SERVICE, version: VERSION, calls });
});
app.listen(Number(port), host, () => console.log('listening'));
