"""tools/tidy finds what it is for: each rule is broken once in a small tree of its own, and a clean tree passes."""

import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
TIDY = os.path.join(ROOT, "tools/tidy")

CLEAN = {
    "src/base/README.md": "x\n",
    "src/base/a.h": "#ifndef OXBOW_BASE_A_H\n#define OXBOW_BASE_A_H\n#include <stdint.h>\nuint64_t a(void);\n#endif\n",
    "src/base/a.c": '/* time(0) and malloc() in a comment, TO' 'PICS */\n#include "base/a.h"\n\n#include <string.h>\n\n'
                    "static const char *const names[] = {\"open(x)\"};\nstatic const int table[2] = {1, 2};\n\n"
                    "uint64_t a(void) {\n    return strlen(names[0]) + (uint64_t)table[1];\n}\n",
    "src/base/meson.build": "base_sources = files('a.c')\n",
    "src/rt/README.md": "x\n",
    "src/rt/meson.build": "rt_sources = files('b.c', 'linux/os.c')\n",
    "src/rt/b.h": '#ifndef OXBOW_RT_B_H\n#define OXBOW_RT_B_H\n#include "base/a.h"\nstruct later;\nenum kind { ONE };\nstruct b {\n    void (*free)(struct b *b);\n'
                  "    int (*open)(void);\n};\nint b(struct b *b);\n#endif\n",
    "src/rt/b.c": '#include "rt/b.h"\n\nint b(struct b *b) {\n    b->free(b);\n    return (*b).open();\n}\n',
    "src/rt/linux/os.c": "#include <unistd.h>\n\nstatic int handle;\n\nint os(void);\nint os(void) {\n    return close(handle);\n}\n",
    "tests/unit/base/meson.build": "unit_tests += {'base/a': files('test_a.c')}\n",
    "tests/unit/base/test_a.c": '#include "base/a.h"\n#include "rt/b.h"\n#include <unistd.h>\nint main(void) {\n    return (int)a();\n}\n',
    "docs/x.md": "Fine.\n",
}

# What breaks: rule, file, its text (None: taken away), a part of the message.
BROKEN = [
    ("folder-order", "src/base/a.c", '#include "base/a.h"\n#include "rt/b.h"\n', "base/ is below rt/"),
    ("folder-order", "src/base/a.c", '#include "a.h"\n', 'expected "folder/file.h"'),
    ("folder-order", "src/elsewhere/x.c", "int x;\n", "the folder is not one of"),
    ("system-headers", "src/rt/b.c", '#include "rt/b.h"\n#include <unistd.h>\n', "<unistd.h>"),
    ("system-headers", "src/rt/b.c", '#include "rt/b.h"\n#include <sys/socket.h>\n', "<sys/socket.h>"),
    ("system-headers", "src/rt/b.c", '#include "rt/b.h"\n  #  include <pthread.h>\n', "<pthread.h>"),
    ("calls", "src/rt/b.c", '#include "rt/b.h"\nint b(struct b *b) {\n    return time (0);\n}\n', "src/rt/b.c:3: time()"),
    ("calls", "src/rt/b.c", '#include "rt/b.h"\nint b(struct b *b) {\n    return rand();\n}\n', "rand()"),
    ("calls", "src/rt/b.c", '#include "rt/b.h"\nint b(struct b *b) {\n    return !malloc(1);\n}\n', "use struct mem"),
    ("calls", "src/rt/b.c", '#include "rt/b.h"\nint b(struct b *b) {\n    return pthread_self();\n}\n', "pthread_self()"),
    ("calls", "src/base/a.h", "#ifndef OXBOW_BASE_A_H\n#define OXBOW_BASE_A_H\n#define A() write(1, 0, 0)\n#endif\n", "write()"),
    ("variables", "src/rt/b.c", '#include "rt/b.h"\nstatic int counter;\n', "'counter'"),
    ("variables", "src/rt/b.c", '#include "rt/b.h"\nunsigned long counter = 3;\n', "'counter'"),
    ("variables", "src/rt/b.c", '#include "rt/b.h"\nint b(struct b *b) {\n    static const char *last;\n    return !last;\n}\n', "'last'"),
    ("variables", "src/rt/b.c", '#include "rt/b.h"\nstruct b all[3] = {0};\n', "'all'"),
    ("guards", "src/base/a.h", "#ifndef A_H\n#define A_H\n#endif\n", "OXBOW_BASE_A_H"),
    ("own-header", "src/rt/b.c", '#include "base/a.h"\n#include "rt/b.h"\n', 'expected "rt/b.h"'),
    ("headers-alone", "src/base/a.h", "#ifndef OXBOW_BASE_A_H\n#define OXBOW_BASE_A_H\nuint64_t a(void);\n#endif\n", "does not compile"),
    ("dead-files", "src/base/meson.build", "base_sources = files('other.c')\n", "src/base/a.c:1: no meson.build"),
    ("dead-files", "src/base/lonely.h", "#ifndef OXBOW_BASE_LONELY_H\n#define OXBOW_BASE_LONELY_H\n#endif\n", "no file includes it"),
    ("dead-files", "tests/unit/base/test_b.c", "int main(void) {\n    return 0;\n}\n", "tests/unit/base/test_b.c:1: no meson.build"),
    ("readmes", "src/rt/README.md", None, "src/rt:1: has no README.md"),
    ("unfinished", "src/rt/b.c", '#include "rt/b.h"\n/* TO' 'DO: more */\n', "src/rt/b.c:2: TO" "DO"),
    ("unfinished", "docs/x.md", "FIX" "ME\n", "docs/x.md:1"),
    ("unfinished", "docs/x.md", "See /work/main.\n", "means nothing elsewhere"),
    ("spaces", "src/rt/b.c", '#include "rt/b.h" \n', "blanks at the end"),
    ("spaces", "src/rt/b.c", '#include "rt/b.h"', "no line end"),
]


def run_tidy(changes):
    root = tempfile.mkdtemp(prefix="tidy-")
    try:
        for path, text in {**CLEAN, **changes}.items():
            if text is None:
                continue
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as f:
                f.write(text)
        return subprocess.run([sys.executable, TIDY, "--root", root], capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(root)


def main():
    failed = False

    def check(name, good, run):
        nonlocal failed
        print(("ok " if good else "not ok ") + name)
        if not good:
            failed = True
            print(run.stdout + run.stderr)

    run = run_tidy({})
    check("tidy-clean", run.returncode == 0 and "not ok" not in run.stdout, run)
    for i, (rule, path, text, message) in enumerate(BROKEN):
        run = run_tidy({path: text})
        check(f"tidy-{rule}-{i}", run.returncode == 1 and f"not ok {rule}:" in run.stdout and message in run.stdout, run)
    long = '#include "rt/b.h"\n\nint b(struct b *b) {\n' + "    b->free(b);\n" * 120 + "    return 0;\n}\n"
    run = run_tidy({"src/rt/b.c": long})
    check("tidy-notes", run.returncode == 0 and "note: src/rt/b.c:3: a function of 123 lines" in run.stdout, run)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
