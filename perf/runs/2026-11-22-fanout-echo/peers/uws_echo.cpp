// A WebSocket echo on uWebSockets, as its own examples tune it: no compression, no idle timeout.
#include "App.h"
#include <cstdlib>
#include <iostream>

int main(int argc, char **argv) {
    int port = argc > 1 ? std::atoi(argv[1]) : 9001;
    struct PerSocketData {};
    uWS::App().ws<PerSocketData>("/*", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 16 * 1024 * 1024,
        .idleTimeout = 0,
        .maxBackpressure = 16 * 1024 * 1024,
        .message = [](auto *ws, std::string_view message, uWS::OpCode opCode) { ws->send(message, opCode); },
    }).listen("127.0.0.1", port, [port](auto *listening) {
        if (listening) std::cout << "listening on http://127.0.0.1:" << port << std::endl;
        else std::exit(1);
    }).run();
}
