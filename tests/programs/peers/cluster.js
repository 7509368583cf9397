// Node's cluster as its documentation has it: so many workers, one that dies is replaced, HUP replaces all, the new ones first.
// NODE_CLUSTER_SCHED_POLICY says whether the primary passes connections (rr) or the workers share the listener (none).
const cluster = require('cluster');
const path = require('path');

const workers = Number(process.argv[2]);
const leaving = new Set();

cluster.setupPrimary({ exec: path.join(__dirname, 'app.js') });
for (let number = 0; number < workers; number += 1) cluster.fork();

cluster.on('exit', (worker) => {
  if (!leaving.delete(worker.id)) cluster.fork();
});

process.on('SIGHUP', () => {
  for (const old of Object.values(cluster.workers).filter(({ id }) => !leaving.has(id))) {
    leaving.add(old.id);
    cluster.fork().once('listening', () => old.disconnect());
  }
});
