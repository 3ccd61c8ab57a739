#!/usr/bin/env python3
"""The history of every text channel that a user sees, over REST, one message a line.

It never writes to the server and never hides an answer that it did not expect.

Invariants: channels by id, messages by seq, keys by name: two dumps of one history are the same
bytes. Every channel's seq is checked to be dense from 1.
"""

import argparse
import json
import sys
import urllib.request

PAGE = 100


def get(target, token, path):
    request = urllib.request.Request(target + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def channels(target, token):
    guilds = get(target, token, "/api/guilds")["guilds"]
    return sorted(c["id"] for guild in guilds for c in guild["channels"] if c["type"] == "text")


def history(target, token, channel):
    """All messages of a channel, oldest first."""
    newest_first, before = [], ""
    while True:
        path = f"/api/channels/{channel}/messages?limit={PAGE}{before}"
        page = get(target, token, path)["messages"]
        newest_first += page
        if len(page) < PAGE:
            return newest_first[::-1]
        before = f"&before={page[-1]['id']}"


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--target", required=True, help="the server, http://HOST:PORT")
    options.add_argument("--tokens", required=True, help="a token file; its first user reads")
    given = options.parse_args()
    with open(given.tokens, encoding="ascii") as tokens:
        token = tokens.readline().strip()
    for channel in channels(given.target, token):
        messages = history(given.target, token, channel)
        if [m["seq"] for m in messages] != list(range(1, len(messages) + 1)):
            sys.exit(f"channel {channel}: seq is not dense from 1")
        for message in messages:
            print(json.dumps(message, sort_keys=True, ensure_ascii=False))


if __name__ == "__main__":
    main()
