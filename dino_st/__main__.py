"""`python -m dino_st`: the command line."""

from __future__ import annotations

from dino_st.cli.main import main

if __name__ == "__main__":
    main()
