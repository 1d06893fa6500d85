// One service of the test estate: Node's own HTTP/1.1 server and the `ws` library, which names itself in every answer.
//
//   node upstream.cjs NAME      listens on a free loopback port and prints "listening PORT"
//
// Every answer carries `X-Upstream: NAME`. What is not listed in `pages` is answered with a JSON echo of the request.
'use strict';
const crypto = require('node:crypto');
const http = require('node:http');
const { WebSocketServer } = require('ws');

const name = process.argv[2];
const seen = {}; // "GET /path" -> number of requests, asked for directly at /seen

const pages = {
  '/seen': (req, res) => json(res, seen),
  '/favicon.ico': (req, res) => res.writeHead(204).end(),
  '/app.js': (req, res) => text(res, 'text/javascript', `document.body.dataset.script = '${name}';`),
  '/style.css': (req, res) => text(res, 'text/css', `body { --sheet: ${name}; }`),
  '/': (req, res) =>
    text(
      res,
      'text/html',
      `<!doctype html><title>${name}</title><link rel="stylesheet" href="/style.css">` +
        `<body><h1>${name}</h1><script src="/app.js"></script></body>`,
    ),
  '/hints': (req, res) => {
    res.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' });
    json(res, { name });
  },
  '/trailers': (req, res) => {
    res.writeHead(200, { 'content-type': 'text/plain', trailer: 'x-checksum' });
    res.write(name);
    res.addTrailers({ 'x-checksum': 'abc123' });
    res.end();
  },
  '/events': (req, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    // The second event waits for the client's word (/tick): a proxy that gathers the body would never show the first.
    res.write(`data: ${name} 1\n\n`);
    tick = () => res.end(`data: ${name} 2\n\n`);
  },
  '/tick': (req, res) => {
    tick();
    json(res, { name });
  },
};
let tick = () => {};

function text(res, type, body) {
  // Cacheable on purpose: what a cache may keep is the proxy's to say.
  res.writeHead(200, { 'content-type': type, 'cache-control': 'public, max-age=60' }).end(body);
}

function json(res, body, status = 200) {
  res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

// The whole request as it arrived, with the length and digest of its body instead of the body.
function echo(req, res, status = 200) {
  const digest = crypto.createHash('sha256');
  let bytes = 0;
  req.on('data', (chunk) => {
    digest.update(chunk);
    bytes += chunk.length;
  });
  req.on('end', () => {
    const { method, url, headers } = req;
    json(res, { name, method, url, headers, bytes, sha256: digest.digest('hex') }, status);
  });
}

function cors(req, res) {
  res.setHeader('access-control-allow-origin', req.headers.origin || '*');
  res.setHeader('access-control-allow-headers', 'x-custom');
  res.setHeader('access-control-allow-methods', 'GET, PUT');
  res.setHeader('access-control-expose-headers', 'x-upstream');
  if (req.method !== 'OPTIONS') return false;
  res.writeHead(204).end();
  return true;
}

const server = http.createServer((req, res) => {
  const path = req.url.split('?')[0];
  if (path !== '/seen') seen[`${req.method} ${path}`] = (seen[`${req.method} ${path}`] || 0) + 1;
  res.setHeader('x-upstream', name);
  if (path.startsWith('/cors') && cors(req, res)) return;
  const status = /^\/status\/(\d{3})$/.exec(path);
  if (status) echo(req, res, Number(status[1]));
  else (pages[path] || echo)(req, res);
});

// The socket's first message names the upstream and the headers that the handshake brought. Then: "close CODE REASON"
// closes so, "ping" makes the server ping and say "ponged", everything else is echoed as it came.
const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0] });
sockets.on('connection', (socket, req) => {
  socket.send(JSON.stringify({ name, url: req.url, headers: req.headers }));
  socket.on('message', (data, binary) => {
    const said = binary ? '' : data.toString();
    const close = /^close (\d+) (.*)$/.exec(said);
    if (close) socket.close(Number(close[1]), close[2]);
    else if (said === 'ping') {
      socket.once('pong', (payload) => socket.send(`ponged ${payload}`));
      socket.ping('are you there');
    } else socket.send(data, { binary });
  });
  socket.on('close', (code) => (seen[`closed ${code}`] = (seen[`closed ${code}`] || 0) + 1));
});
server.on('upgrade', (req, socket, head) =>
  sockets.handleUpgrade(req, socket, head, (ws) => sockets.emit('connection', ws, req)),
);
server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`));
