// One service of an estate of hops, in Node: its own HTTP/1.1, or @grpc/grpc-js. What the environment and the target of a
// request say is told in chain.py.
'use strict';
const http = require('node:http');
const { ALL, STYLES } = require('./styles.cjs');

const { SERVICE, VERSION, LISTEN, PROTOCOL } = process.env;
const CALLS = JSON.parse(process.env.CALLS || '{}');
const PATIENCE = 30000;

async function answer(target, received, ask) {
  const at = target.indexOf('?');
  const [path, query] = at < 0 ? [target, ''] : [target.slice(0, at), target.slice(at + 1)];
  const styles = new URLSearchParams(query);
  const style = styles.get(SERVICE) || styles.get('all') || process.env.STYLE || 'full';
  let called = [];
  let onward = `/leaf?${query}`;
  let from = received;
  if (path === '/chain') {
    called = Object.keys(CALLS).filter((name) => name !== SERVICE);
    onward = target;
  } else if (path.startsWith('/call/')) called = [path.slice('/call/'.length)];
  else if (path === '/job') {
    called = Object.keys(CALLS);
    from = {};
  }
  const known = Object.fromEntries(ALL.filter((name) => name in from).map((name) => [name, from[name]]));
  const calls = [];
  for (const service of called) {
    const sent = STYLES[style](known);
    calls.push({ service, sent, ...(await ask(CALLS[service], onward, sent)) });
  }
  return { service: SERVICE, version: VERSION, style, received: known, calls };
}

function told(status, text, receipt) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    body = { text };
  }
  return { status, receipt: receipt ?? null, answer: body };
}

// ---------------------------------------------------------------------------------------------------------------- HTTP

const agent = new http.Agent({ keepAlive: true });

const askHttp = (base, target, headers) =>
  new Promise((resolve) => {
    const request = http.get(base + target, { headers, agent, timeout: PATIENCE }, (reply) => {
      let text = '';
      reply.setEncoding('utf8');
      reply.on('data', (piece) => (text += piece));
      reply.on('end', () => resolve(told(reply.statusCode, text, reply.headers['x-pr-route'])));
    });
    request.on('timeout', () => request.destroy(new Error('no answer in time')));
    request.on('error', (error) => resolve(told(0, String(error))));
  });

function serveHttp(host, port) {
  const server = http.createServer(async (request, reply) => {
    const body = JSON.stringify(await answer(request.url, request.headers, askHttp));
    reply.writeHead(200, { 'content-type': 'application/json' }).end(body);
  });
  server.keepAliveTimeout = 75000;
  server.listen(port, host, 512, () => console.log('listening'));
}

// ---------------------------------------------------------------------------------------------------------------- gRPC

function serveGrpc(host, port) {
  const grpc = require('@grpc/grpc-js');
  const bytes = (value) => Buffer.from(value);
  const text = (value) => value.toString();
  const definition = {
    Ask: {
      path: '/estate.Chain/Ask',
      requestStream: false,
      responseStream: false,
      requestSerialize: bytes,
      requestDeserialize: text,
      responseSerialize: bytes,
      responseDeserialize: text,
    },
  };
  const Chain = grpc.makeGenericClientConstructor(definition, 'Chain');
  const clients = {};
  const ask = (base, target, fields) =>
    new Promise((resolve) => {
      clients[base] ??= new Chain(base.slice('http://'.length), grpc.credentials.createInsecure(), {
        'grpc.enable_http_proxy': 0,
      });
      const metadata = new grpc.Metadata();
      for (const [name, value] of Object.entries(fields)) metadata.set(name, value);
      let said = {};
      const call = clients[base].Ask(target, metadata, { deadline: Date.now() + PATIENCE }, (error, reply) => {
        if (error) resolve(told(error.code, error.details));
        else call.once('status', (status) => resolve(told(200, reply, { ...said, ...status.metadata.getMap() }['x-pr-route'])));
      });
      call.on('metadata', (metadata) => (said = metadata.getMap()));
    });
  const server = new grpc.Server();
  server.addService(definition, {
    Ask: (call, done) =>
      answer(call.request, call.metadata.getMap(), ask).then(
        (body) => done(null, JSON.stringify(body)),
        (error) => done({ code: grpc.status.UNKNOWN, details: String(error) }),
      ),
  });
  server.bindAsync(`${host}:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
    if (error) throw error;
    console.log('listening');
  });
}

const at = LISTEN.lastIndexOf(':');
(PROTOCOL === 'grpc' ? serveGrpc : serveHttp)(LISTEN.slice(0, at), Number(LISTEN.slice(at + 1)));
