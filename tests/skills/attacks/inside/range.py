"""The firing range: confines itself as the bootstrap does, then runs attacks one after another.

In the mode `unprotected` it confines nothing: that shows what the attacks would do.
Arguments: the descriptor to answer on, the guest's directory, this directory, the mode.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path


def main():
    answers, guest, here, mode = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    sys.path.insert(0, here)
    from attempt import attempt

    spec = importlib.util.spec_from_file_location("confine", guest + "/confine.py")
    confine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(confine)
    scratch = os.environ["TMPDIR"]
    if mode != "unprotected":
        confine.confine_base()
    orders = json.loads(Path(here, "orders.json").read_text())
    facts = {**orders["facts"], "app": here, "guest": guest}
    for name, code in orders["attacks"].items():
        call_dir = f"{scratch}/call"
        Path(call_dir).mkdir()
        facts["call_dir"] = call_dir
        if mode == "fork":
            answer = _fork(lambda code=code: attempt(code, facts), confine, call_dir)
        else:
            answer = attempt(code, facts)
        os.write(answers, json.dumps([name, answer]).encode() + b"\n")
        _wipe(call_dir)
    os.close(answers)


def _fork(action, confine, call_dir):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        confine.confine_call(call_dir)
        os.chdir(call_dir)
        os.write(writer, action().encode())
        os._exit(0)
    os.close(writer)
    answer = b""
    while data := os.read(reader, 4096):
        answer += data
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return answer.decode() if status == 0 else f"ended {status}"


def _wipe(directory):
    for entry in Path(directory).iterdir():
        entry.unlink()
    Path(directory).rmdir()


main()
