// The HTTP server that bench_peers runs under ostler (on descriptor 3) and in Node's cluster (on PEER_LISTEN, a path or HOST:PORT).
const http = require('http');

const server = http.createServer((request, response) => {
  const [, what, ms] = request.url.split('/');
  const body = `hello pid=${process.pid}\n`;
  const answer = () => response.writeHead(200, { 'Content-Length': body.length }).end(body);
  if (what === 'sleep') setTimeout(answer, Number(ms)); else answer();
});

process.on('SIGTERM', () => server.close(() => process.exit(0)));

const address = process.env.PEER_LISTEN;
const [, host, port] = /^([\d.]+):(\d+)$/.exec(address) ?? [];
server.listen(!address ? { fd: 3 } : { backlog: 4096, ...(port ? { host, port: Number(port) } : { path: address }) });
