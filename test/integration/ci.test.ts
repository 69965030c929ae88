import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { parse } from 'yaml';
import { packageRoot } from '#core/package-root';
import { outriderArgv } from '#core/testing/outrider-argv';
import { openBundle, readTrustedKeys } from '#policystore';

/**
 * The pipelines of examples/ci, step by step as their services would run them, in a repository of its own. Only what posts the
 * comment is another: `COMMENT` prints it.
 */

interface Job {
  readonly name: string;
  readonly env: Readonly<Record<string, string>>;
  readonly steps: readonly string[];
}

/** What the services would put in the places of their own variables. */
interface Run {
  readonly base: string;
  readonly keyFile: string;
  readonly home: string;
}

const pipelines: Readonly<Record<string, (run: Run) => readonly Job[]>> = {
  'github-actions.yml': github,
  'gitlab-ci.yml': gitlab,
};

for (const [file, jobsOf] of Object.entries(pipelines))
  describe(file, () => {
    const jobs = (at: Repository) => {
      const all = jobsOf({ base: at.base, keyFile: at.keyFile, home: at.root });
      assert.ok(all.length >= 2);
      return {
        review: all.filter(({ name }) => !name.includes('bundle')),
        bundle: all.filter(({ name }) => name.includes('bundle')),
      };
    };

    test('shows what a change means, and stops where something becomes possible', (t) => {
      const at = startRepository(t);
      at.change(
        'paths: ["/repos/example-owner/**"]',
        'paths: ["/repos/**"]',
        'policies/egress-analyst-github-read.yaml',
      );
      at.change(
        'paths: ["/repos/example-owner/**", /rate_limit]',
        'paths: any',
        'policies/egress-analyst-github-read.yaml',
      );
      at.change(
        '{verdict: deny, reason: path_not_allowed}',
        '{verdict: allow}',
        'policies/test-analyst-github-read.yaml',
        'somebody-else',
      );
      const { outcomes, out } = at.runJobs(jobs(at).review);
      assert.match(out, /\/repos\//, 'the comment says it');
      assert.equal(outcomes.at(-1), 1, 'the last step fails for what widens');
      assert.deepEqual(new Set(outcomes.slice(0, -1)), new Set([0]), out);
    });

    test('lets pass what only takes away', (t) => {
      const at = startRepository(t);
      at.change(
        'methods: [GET, HEAD]',
        'methods: [GET]',
        'policies/egress-analyst-github-read.yaml',
      );
      at.change(
        '{verdict: allow, rule: github-repositories, credential: github-read}',
        '{verdict: deny}',
        'policies/test-analyst-github-read.yaml',
        'request: HEAD',
      );
      const { outcomes, out } = at.runJobs(jobs(at).review);
      assert.deepEqual(new Set(outcomes), new Set([0]), out);
      assert.match(out, /HEAD/);
    });

    test('stops at a mistake, with its place', (t) => {
      const at = startRepository(t);
      at.change('mode: enforce', 'mode: enforced', 'policies/egress-analyst-github-read.yaml');
      const { outcomes, out } = at.runJobs(jobs(at).review);
      assert.ok(outcomes.some((status) => status !== 0));
      assert.match(out, /egress-analyst-github-read\.yaml:\d+:\d+/);
    });

    test('stops where no test would notice a mistake', (t) => {
      const at = startRepository(t);
      rmSync(join(at.work, 'policies/test-analyst-github-read.yaml'));
      at.git('commit', '-qam', 'no tests');
      const { outcomes, out } = at.runJobs(jobs(at).review);
      assert.ok(
        outcomes.some((status) => status !== 0),
        out,
      );
    });

    test('signs what was merged', async (t) => {
      const at = startRepository(t);
      const { outcomes, out } = at.runJobs(jobs(at).bundle);
      assert.deepEqual(new Set(outcomes), new Set([0]), out);
      const text = readFileSync(join(at.work, 'policies.bundle.json'), 'utf8');
      const { bundle } = openBundle(text, readTrustedKeys(join(at.root, 'ours.pub.json')));
      assert.deepEqual([bundle.serial, bundle.commit], [1_000, at.git('rev-parse', 'HEAD')]);
    });
  });

/** Every `run` of every job, with the environment of workflow and job. */
function github({ base, keyFile }: Run): Job[] {
  const expressions: Readonly<Record<string, string>> = {
    'github.event.pull_request.base.sha': base,
    'github.event.pull_request.number': '7',
    'github.token': 'no-token',
    'secrets.POLICY_KEY': readFileSync(keyFile, 'utf8').trim(),
  };
  const filled = (text: string) =>
    text.replaceAll(/\$\{\{ ([\w.]+) \}\}/g, (_, name: string) => {
      const value = expressions[name];
      assert.ok(value !== undefined, name);
      return value;
    });
  const workflow = pipeline('github-actions.yml');
  return Object.entries(record(workflow['jobs'])).map(([name, job]) => ({
    name,
    env: Object.fromEntries(
      Object.entries({ ...record(workflow['env']), ...record(record(job)['env']) }).map(
        ([key, value]) => [key, filled(String(value))],
      ),
    ),
    steps: list(record(job)['steps']).flatMap((step) => {
      const { run } = record(step);
      return typeof run === 'string' ? [run] : [];
    }),
  }));
}

/** Every line of every `script`, with the variables of pipeline and job. */
function gitlab({ base, keyFile }: Run): Job[] {
  const predefined: Readonly<Record<string, string>> = {
    CI_MERGE_REQUEST_DIFF_BASE_SHA: base,
    CI_DEFAULT_BRANCH: 'main',
    POLICY_KEY: keyFile,
  };
  /** As GitLab expands a variable's value: `$$` is a dollar sign. */
  const expanded = (text: string) =>
    text.replaceAll(/\$(\$|\w+)/g, (_, name: string) =>
      name === '$' ? '$' : (predefined[name] ?? ''),
    );
  const all = pipeline('gitlab-ci.yml');
  return Object.entries(all)
    .filter(([, job]) => typeof job === 'object' && job !== null && 'script' in job)
    .map(([name, job]) => ({
      name,
      env: {
        ...predefined,
        ...Object.fromEntries(
          Object.entries({ ...record(all['variables']), ...record(record(job)['variables']) }).map(
            ([key, value]) => [key, expanded(String(value))],
          ),
        ),
      },
      steps: list(record(job)['script']).map(String),
    }));
}

type Repository = ReturnType<typeof startRepository>;

/** A repository whose main has a role that reads GitHub, a key, and `outrider` on the PATH. */
function startRepository(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'outrider-ci-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const work = join(root, 'work');
  mkdirSync(join(root, 'bin'));
  mkdirSync(work);
  const outrider = join(root, 'bin/outrider');
  writeFileSync(
    outrider,
    `#!/bin/sh\nexec "${process.execPath}" ${outriderArgv()
      .map((word) => `"${word}"`)
      .join(' ')} "$@"\n`,
  );
  chmodSync(outrider, 0o755);
  const run = (env: Readonly<Record<string, string>>, program: string, ...args: string[]) =>
    spawnSync(program, args, {
      cwd: work,
      encoding: 'utf8',
      env: { PATH: `${join(root, 'bin')}:${process.env['PATH']}`, HOME: root, ...env },
    });
  const git = (...args: string[]): string => {
    const who = ['-c', 'user.name=t', '-c', 'user.email=t@example.com'];
    const { status, stdout, stderr } = run({}, 'git', ...who, ...args);
    assert.equal(status, 0, stderr);
    return stdout.trim();
  };
  git('init', '-q', '-b', 'main');
  const made = run({}, 'outrider', 'policy', 'init', 'analyst', '--with', 'github-read');
  assert.equal(made.status, 0, made.stderr);
  assert.equal(run({}, 'outrider', 'policy', 'keygen', '../ours').status, 0);
  git('add', '.');
  git('commit', '-qm', 'the beginning');
  return {
    root,
    work,
    git,
    base: git('rev-parse', 'HEAD'),
    keyFile: join(root, 'ours.key.json'),
    /** Changes the first such text of a file, after another one where that is given, and commits it. */
    change(from: string, to: string, file: string, behind = '') {
      const path = join(work, file);
      const text = readFileSync(path, 'utf8');
      const start = Math.max(0, text.indexOf(behind));
      const changed = text.slice(0, start) + text.slice(start).replace(from, to);
      assert.ok(changed !== text, `${file} has ${from}`);
      writeFileSync(path, changed);
      git('commit', '-qam', `${from} becomes ${to}`);
    },
    /** The exit codes of every step; a job ends with its first failure. */
    runJobs(jobs: readonly Job[]): { outcomes: number[]; out: string } {
      const outcomes: number[] = [];
      let out = '';
      for (const { env, steps } of jobs) {
        assert.ok(steps.length > 0);
        for (const step of steps) {
          const { status, stdout, stderr } = run(
            { ...env, COMMENT: 'cat "$1"' },
            'bash',
            '-eo',
            'pipefail',
            '-c',
            step,
          );
          outcomes.push(status ?? -1);
          out += stdout + stderr;
          if (status !== 0) break;
        }
      }
      return { outcomes, out };
    },
  };
}

function pipeline(file: string): Record<string, unknown> {
  const path = join(packageRoot, 'examples/ci', file);
  assert.ok(existsSync(path));
  return record(parse(readFileSync(path, 'utf8')));
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

function list(value: unknown): readonly unknown[] {
  assert.ok(Array.isArray(value));
  return value;
}
