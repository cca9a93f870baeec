"""``make fuzz``: every door in turn for some minutes; what hurts is kept in tests/fuzz/corpus/ and said in the end."""

import argparse
import random
import sys
import time

from tests.fuzz.run import DOORS, fuzz
from tests.fuzz.target import Hurt, target

_COUNT = 200  # cases at one door, before the next


def main() -> int:
    """0 when nothing hurt."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--door", choices=DOORS, action="append", help="only this one (may be repeated)")
    parser.add_argument("--seed", type=int, default=None, help="of the random choices")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    until, sent, found = time.monotonic() + 60 * options.minutes, dict.fromkeys(options.door or DOORS, 0), []
    try:
        with target() as running:
            while time.monotonic() < until:
                for door in sent:
                    number = chance.randrange(2**32)
                    try:
                        sent[door] += fuzz(running, door, _COUNT, number)
                    except Hurt as harm:
                        found.append(str(harm))
                        print(f"{door}, --seed choice {number}: {harm}", flush=True)
                    if time.monotonic() > until:
                        break
                cases = ", ".join(f"{count} {door}" for door, count in sent.items())
                print(f"{max(0, until - time.monotonic()):5.0f} s left: {cases}; {len(found)} hurt", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
