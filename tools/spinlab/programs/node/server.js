// An echo server in ordinary Node: a look-alike at most, it has no defect.
const server = require('net').createServer((socket) => {
  socket.on('error', () => socket.destroy());
  socket.pipe(socket);
});
server.listen(0, '127.0.0.1', () => {
  const { address, port } = server.address();
  console.log(JSON.stringify({ listener: `${address}:${port}` }));
});
setTimeout(() => process.exit(), 120000).unref();
