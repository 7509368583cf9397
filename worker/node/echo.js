'use strict';
// Sends back what it gets.
require('./worker.js').serve((socket) => socket.pipe(socket), { allowHalfOpen: true });
