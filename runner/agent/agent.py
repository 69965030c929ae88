"""Where python3 starts in a box: a few lines, because a script is compiled anew each time and what it imports is not."""

import sys

sys.path.insert(0, "/run/agent")

from outrider_agent import main  # noqa: E402

if __name__ == "__main__":
    main()
