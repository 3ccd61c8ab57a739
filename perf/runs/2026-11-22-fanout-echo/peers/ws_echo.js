// A WebSocket echo on ws, without compression.
const { WebSocketServer } = require("ws");
const port = Number(process.argv[2] ?? 9001);
const server = new WebSocketServer({ host: "127.0.0.1", port, perMessageDeflate: false }, () =>
  console.log(`listening on http://127.0.0.1:${port}`));
server.on("connection", (socket) =>
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary })));
