// An HTTP server on an inherited listener that says which worker answers; /sleep/MS waits first. TERM lets it finish.
const http = require('http');

const worker = `${process.env.OSTLER_POOL}/${process.env.OSTLER_WORKER}`;

const server = http.createServer((request, response) => {
  const [, what, ms] = request.url.split('/');
  const answer = () => response.end(`hello worker=${worker} pid=${process.pid}\n`);
  if (what === 'sleep') setTimeout(answer, Number(ms)); else answer();
});

process.on('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});

server.listen({ fd: 3 });
