import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Packages for registries of tests, made in `directory`. */

/** A wheel of one module with this code: its project's name, its file's name and its bytes. `needs`: what it requires. */
export function wheel(
  directory: string,
  name: string,
  version: string,
  code: string,
  needs?: string,
): [string, string, Buffer] {
  const stem = name.replaceAll('-', '_');
  const info = `${stem}-${version}.dist-info`;
  const entries = {
    [`${stem}.py`]: code,
    [`${info}/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n${needs === undefined ? '' : `Requires-Dist: ${needs}\n`}`,
    [`${info}/WHEEL`]:
      'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
    [`${info}/RECORD`]: `${stem}.py,,\n${info}/METADATA,,\n${info}/WHEEL,,\n${info}/RECORD,,\n`,
  };
  const file = `${stem}-${version}-py3-none-any.whl`;
  const path = join(directory, file);
  const zip =
    'import json, sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], "w") as z:\n  for n, t in json.loads(sys.argv[2]).items(): z.writestr(n, t)';
  execFileSync('python3', ['-c', zip, path, JSON.stringify(entries)], { stdio: 'pipe' });
  return [name, file, readFileSync(path)];
}

/** A gzipped tar archive of these files below one directory. */
export function tarball(
  directory: string,
  top: string,
  files: Readonly<Record<string, string>>,
): Buffer {
  const root = mkdtempSync(join(directory, 'tar-'));
  for (const [path, content] of Object.entries(files)) {
    const file = join(root, top, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  }
  return execFileSync('tar', ['-cz', '-C', root, top]);
}
