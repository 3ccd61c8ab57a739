// An echo and a chat room on ws: a peer of `throng-bench peers`.
//
// It keeps nothing and knows no users. With a second argument each message goes by way of Redis, as
// between the gateways of many a chat server: published there, and forwarded by whoever is subscribed
// to the pattern of all channels, this process too.
//
// A message is a WebSocket message: `S` subscribes and is answered with `s`, what begins with `P`
// goes to all who subscribed, the sender too, and anything else comes back.
"use strict";

const { WebSocketServer } = require("ws");

const SUBSCRIBE = "S".charCodeAt(0);
const PUBLISH = "P".charCodeAt(0);
const CHANNEL = "channel:room";

const [port, redisPort] = process.argv.slice(2).map(Number);

const subscribers = new Set();

function deliver(message) {
  for (const socket of subscribers) socket.send(message, { binary: false });
}

let publish = deliver;
if (redisPort) {
  const { Redis } = require("ioredis");
  const address = { host: "127.0.0.1", port: redisPort };
  // What is published in one turn of the loop leaves together.
  const publisher = new Redis({ ...address, enableAutoPipelining: true });
  const listener = new Redis(address);
  listener.psubscribe("channel:*");
  listener.on("pmessageBuffer", (_pattern, _channel, message) => deliver(message));
  publish = (message) => publisher.publish(CHANNEL, message);
}

// Compression is off unless asked for; UTF-8 is checked, as everywhere. No client tracking: the set
// above is all there is.
const server = new WebSocketServer({ host: "127.0.0.1", port, clientTracking: false });
server.on("connection", (socket) => {
  socket.on("message", (message, isBinary) => {
    if (message[0] === SUBSCRIBE) {
      subscribers.add(socket);
      socket.send("s");
    } else if (message[0] === PUBLISH) {
      publish(message);
    } else {
      socket.send(message, { binary: isBinary });
    }
  });
  socket.on("close", () => subscribers.delete(socket));
  socket.on("error", () => socket.terminate());
});
