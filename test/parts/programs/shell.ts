import type { Program } from './program.ts';

export const SHELL: readonly Program[] = [
  {
    fact: 'pipes join programs',
    code: `printf '%s\\n' pear apple fig | sort | head -n 2 | tr a-z A-Z`,
    stdout: 'APPLE\nFIG\n',
  },
  {
    fact: 'here-documents expand, and do not where they are quoted',
    env: { NAME: 'world' },
    code: `cat <<END
hello $NAME $((6 * 7))
END
cat <<'END'
hello $NAME
END`,
    stdout: 'hello world 42\nhello $NAME\n',
  },
  { fact: 'the exit code is the last one', code: 'true; (exit 5)', stdout: '', exit: 5 },
  {
    fact: 'set -e ends at the first failure',
    code: 'set -e\necho before\nfalse\necho after',
    stdout: 'before\n',
    exit: 1,
  },
  {
    fact: 'a program that is not there is 127',
    code: 'no-such-program',
    stderr: /no-such-program: (?:command )?not found/,
    exit: 127,
  },
  {
    fact: 'traps run at the end and on a signal',
    code: `trap 'echo bye' EXIT
trap 'echo got it' USR1
kill -USR1 $$
echo on`,
    stdout: 'got it\non\nbye\n',
  },
  {
    fact: 'a signal that it sends to itself ends it',
    code: 'echo before; kill -TERM $$; echo after',
    stdout: 'before\n',
    signal: 'SIGTERM',
  },
  {
    fact: 'arguments keep their blanks',
    args: ['a b', '', '*', '"q"'],
    code: 'echo $#; for word in "$@"; do echo "[$word]"; done',
    stdout: '4\n[a b]\n[]\n[*]\n["q"]\n',
  },
  {
    fact: 'the environment has what was given, a home and a path',
    env: { COLOUR: 'grün' },
    code: 'echo "$COLOUR $HOME $TMPDIR"; command -v cat >/dev/null && echo path; env | grep -c "^COLOUR="',
    stdout: 'grün /workspace /tmp\npath\n1\n',
  },
  {
    fact: 'files are made, appended to, tested and removed',
    code: `cd /workspace
echo one > list; echo two >> list
[ -s list ] && wc -l < list | tr -d ' '
mkdir -p d && mv list d/ && echo d/*
rm -r d; [ -e d ] || echo gone`,
    stdout: '2\nd/list\ngone\n',
  },
  {
    fact: 'standard input is read line by line',
    stdin: 'a 1\nb 2\n',
    code: 'while read -r name count; do echo "$count$name"; done',
    stdout: '1a\n2b\n',
  },
  {
    fact: 'what is left in /output comes back',
    code: 'seq 3 > "$OUTRIDER_OUTPUT/numbers"; mkdir /output/d; printf x > /output/d/e',
    stdout: '',
    artefacts: { numbers: '1\n2\n3\n', 'd/e': 'x' },
  },
  {
    fact: 'functions, loops, case and arithmetic',
    code: `fizz() { case $(($1 % 3))$(($1 % 5)) in 00) echo fizzbuzz;; 0?) echo fizz;; ?0) echo buzz;; *) echo "$1";; esac; }
i=1; while [ $i -le 15 ]; do fizz $i; i=$((i + 1)); done | paste -s -d , -`,
    stdout: '1,2,fizz,4,buzz,fizz,7,8,fizz,buzz,11,fizz,13,14,fizzbuzz\n',
  },
  {
    fact: 'processes in the background are waited for',
    code: `(sleep 0.02; echo slow) & (echo fast) & wait; echo done`,
    stdout: 'fast\nslow\ndone\n',
  },
  {
    fact: 'both streams stay apart',
    code: 'echo out; echo err >&2; echo more',
    stdout: 'out\nmore\n',
    stderr: /^err\n$/,
  },
  {
    fact: 'binary output is not touched',
    code: `printf '\\001\\002\\000\\377' | od -An -tx1 | tr -d ' \\n'`,
    stdout: '010200ff',
  },
  {
    fact: 'a large output is counted to the byte',
    code: 'yes 0123456789abcde | head -c 4000000',
    stdoutBytes: 4_000_000,
  },
];
