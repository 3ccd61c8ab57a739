// An echo and a chat room on uWebSockets.js: a peer of `throng-bench peers`.
//
// It keeps nothing and knows no users. Its pub/sub is the library's own, which joins what a socket
// is due in one turn of the loop.
//
// A message is a WebSocket message: `S` subscribes and is answered with `s`, what begins with `P`
// goes to all who subscribed, the sender too, and anything else comes back.
"use strict";

const uWS = require("uWebSockets.js");

const SUBSCRIBE = "S".charCodeAt(0);
const PUBLISH = "P".charCodeAt(0);
const ROOM = "room";

const port = Number(process.argv[2]);

const app = uWS.App();
app.ws("/*", {
  compression: uWS.DISABLED,
  maxPayloadLength: 64 * 1024,
  // What a subscriber may be behind, bytes; beyond it messages are left out. The default of 64 KiB
  // does so within a few milliseconds of a busy room.
  maxBackpressure: 1024 * 1024,
  message: (socket, message, isBinary) => {
    const kind = new Uint8Array(message)[0];
    if (kind === SUBSCRIBE) {
      socket.subscribe(ROOM);
      socket.send("s");
    } else if (kind === PUBLISH) {
      app.publish(ROOM, message, isBinary);
    } else {
      socket.send(message, isBinary);
    }
  },
});
app.listen("127.0.0.1", port, (listening) => {
  if (!listening) {
    console.error(`port ${port} is taken`);
    process.exit(1);
  }
});
