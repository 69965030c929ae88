import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { tarball, wheel } from '../support/packages.ts';

/** The hosts of clients.test.ts that a rule allows. Files of the registries lie at a host of their own, as those of real ones may. */
export const SITES = ['api', 'git', 'pypi', 'npm', 'files', 'deb', 's3'].map(
  (name) => `${name}.example.com`,
);

/** Writes what clients-host.ts serves into a directory. */
export function makeSites(directory: string): void {
  const put = (path: string, content: string | Buffer): void => {
    const file = join(directory, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  };
  put('api.example.com/open/hello.txt', 'hello\n');
  put('api.example.com/open/index.html', '<a href="hello.txt">hello.txt</a>');
  put(
    's3.example.com/index.html',
    '<ListAllMyBucketsResult><Buckets><Bucket><Name>reports</Name><CreationDate>2026-01-02T03:04:05.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>',
  );
  makeRepository(directory);
  makePythonIndex(directory, put);
  makeNpmRegistry(directory, put);
  makeDebianArchive(directory, put);
}

/**
 * A lockfile of a project with so many dependencies, whose archives the registry has, each where `makeSites` put it; their files are
 * elsewhere.
 */
export function makeLargeProject(directory: string, size: number): Record<string, string> {
  const files = { 'index.js': 'export default 1;', 'package.json': '{"name":"one"}' };
  const content = tarball(directory, 'package', files);
  const integrity = integrityOf(content);
  const blob = 'files.example.com/blobs/one.tgz';
  mkdirSync(dirname(join(directory, blob)), { recursive: true });
  writeFileSync(join(directory, blob), content);
  const names = Array.from({ length: size }, (_, i) => `many-${i}`);
  for (const name of names) {
    const file = join(directory, archiveOf(name, '1.0.0'));
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(`${file}.redirect`, `https://${blob}`);
  }
  const packages = names.map((name) => {
    const resolved = `https://${archiveOf(name, '1.0.0')}`;
    return [`node_modules/${name}`, { version: '1.0.0', resolved, integrity }];
  });
  const dependencies = Object.fromEntries(names.map((name) => [name, '1.0.0']));
  const project = { name: 'large', version: '1.0.0', dependencies };
  const lock = {
    name: 'large',
    version: '1.0.0',
    lockfileVersion: 3,
    requires: true,
    packages: { '': project, ...Object.fromEntries(packages) },
  };
  return { 'package.json': JSON.stringify(project), 'package-lock.json': JSON.stringify(lock) };
}

const archiveOf = (name: string, version: string): string =>
  `npm.example.com/${name}/-/${name}-${version}.tgz`;
const integrityOf = (content: Buffer): string =>
  `sha512-${createHash('sha512').update(content).digest('base64')}`;

type Put = (path: string, content: string | Buffer) => void;

function makeRepository(directory: string): void {
  const work = join(directory, 'work');
  const bare = join(directory, 'git/open.git');
  mkdirSync(work);
  writeFileSync(join(work, 'README'), 'hello from git\n');
  const git = (...argv: string[]) =>
    execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...argv], {
      cwd: work,
      env: { PATH: process.env['PATH'], HOME: directory },
      stdio: 'pipe',
    });
  git('init', '-q', '-b', 'main');
  git('add', 'README');
  git('commit', '-q', '-m', 'first');
  git('clone', '-q', '--bare', work, bare);
}

/** PEP 503; the files are elsewhere, and moved there. */
function makePythonIndex(directory: string, put: Put): void {
  for (const [name, file, content] of [
    wheel(directory, 'greet', '1.0', 'import nouns\nprint("hello", nouns.NOUN)\n', 'nouns'),
    wheel(directory, 'nouns', '2.0', 'NOUN = "noun"\n'),
  ]) {
    const digest = createHash('sha256').update(content).digest('hex');
    const address = `https://files.example.com/packages/${file}`;
    put(
      `pypi.example.com/simple/${name}/index.html`,
      `<a href="${address}#sha256=${digest}">${file}</a>`,
    );
    put(`files.example.com/packages/${file}.redirect`, `https://files.example.com/blobs/${file}`);
    put(`files.example.com/blobs/${file}`, content);
  }
}

function makeNpmRegistry(directory: string, put: Put): void {
  for (const [name, version, code, dependencies] of [
    [
      'left-hand',
      '1.0.2',
      'import { side } from "side-hand"; console.log("left", side);',
      { 'side-hand': '3.x' },
    ],
    ['side-hand', '3.1.4', 'export const side = "side";', {}],
  ] as const) {
    const manifest = { name, version, type: 'module', exports: './index.js', dependencies };
    const files = { 'index.js': code, 'package.json': JSON.stringify(manifest) };
    const content = tarball(directory, 'package', files);
    const file = `${name}-${version}.tgz`;
    const path = archiveOf(name, version);
    const dist = { tarball: `https://${path}`, integrity: integrityOf(content) };
    const versions = { [version]: { ...manifest, dist } };
    put(
      `npm.example.com/${name}/index.json`,
      JSON.stringify({ name, 'dist-tags': { latest: version }, versions }),
    );
    put(`${path}.redirect`, `https://files.example.com/blobs/${file}`);
    put(`files.example.com/blobs/${file}`, content);
  }
}

/** An archive of one package, without signatures: apt is told that it is trusted. */
function makeDebianArchive(directory: string, put: Put): void {
  const control =
    'Package: hello-outrider\nVersion: 1.0\nArchitecture: all\nMaintainer: t <t@example.com>\nDescription: a test\n';
  const root = 'hello-outrider';
  put(`${root}/DEBIAN/control`, control);
  const deb = join(directory, 'hello.deb');
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', join(directory, root), deb], {
    stdio: 'pipe',
  });
  const content = execFileSync('cat', [deb]);
  const sha256 = (text: string | Buffer) => createHash('sha256').update(text).digest('hex');
  const file = 'pool/main/h/hello-outrider_1.0_all.deb';
  const packages = `${control}Filename: ${file}\nSize: ${content.length}\nSHA256: ${sha256(content)}\n\n`;
  const list = 'main/binary-amd64/Packages';
  const architecture = execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim();
  const listed = list.replace('amd64', architecture);
  put(`deb.example.com/${file}`, content);
  put(`deb.example.com/dists/stable/${listed}`, packages);
  put(
    'deb.example.com/dists/stable/Release',
    `Suite: stable\nCodename: stable\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nArchitectures: ${architecture}\nComponents: main\nSHA256:\n ${sha256(packages)} ${packages.length} ${listed}\n`,
  );
}
