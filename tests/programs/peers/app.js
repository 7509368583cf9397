// The HTTP server that bench_peers runs under ostler (on descriptor 3) and in Node's cluster (on the path PEER_SOCKET).
const http = require('http');

const server = http.createServer((request, response) => {
  const [, what, ms] = request.url.split('/');
  const body = `hello pid=${process.pid}\n`;
  const answer = () => response.writeHead(200, { 'Content-Length': body.length }).end(body);
  if (what === 'sleep') setTimeout(answer, Number(ms)); else answer();
});

process.on('SIGTERM', () => server.close(() => process.exit(0)));

server.listen(process.env.PEER_SOCKET ? { path: process.env.PEER_SOCKET, backlog: 4096 } : { fd: 3 });
