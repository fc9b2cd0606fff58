"""python -m querycache."""

from querycache.doors.cli.main import run

if __name__ == "__main__":
    run()
