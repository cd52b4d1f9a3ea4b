"use strict";
// The rooms of a socket.io 4 server, as its documentation has them: node --expose-gc server.js PORT
const { Server } = require("socket.io");

const io = new Server({ transports: ["websocket"], serveClient: false });
io.on("connection", (socket) => {
  socket.on("join", (room, joined) => {
    socket.join(room);
    socket.data.room = room;
    joined();
  });
  socket.on("signal", (data) => socket.to(socket.data.room).emit("signal", data));
});
// Memory is what is left when the garbage is out.
process.on("SIGUSR2", () => globalThis.gc());
const http = require("node:http").createServer();
io.attach(http);
http.listen(Number(process.argv[2]), "127.0.0.1", 1024);
