import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Programs of others, exactly as they come from npm. They are no dependency of ours: what measures or judges us must not be installed with us. */
export const PEERS = {
  conformance: '@modelcontextprotocol/conformance@0.2.0-alpha.12',
  inspector: '@modelcontextprotocol/inspector@2.12.0',
  sdk: '@modelcontextprotocol/sdk@1.32.2',
  everything: '@modelcontextprotocol/server-everything@2026.8.31',
  remote: 'mcp-remote@0.15.1',
  proxy: 'mcp-proxy@6.7.19',
  supergateway: 'supergateway@4.0.0',
} as const;
export type Peer = keyof typeof PEERS;

/** A directory with peers in it. */
export interface Peers {
  /** The path of a program that a peer brings. @throws {Error} where it brings none of that name */
  program(peer: Peer, name?: string): string;
  /** The path of a file of a peer. */
  file(peer: Peer, path: string): string;
  remove(): void;
}

/** Uses the directory that OUTRIDER_PEERS names, or installs the peers with npm into one of its own. @throws {Error} where one is missing */
export function getPeers(wanted: readonly Peer[]): Peers {
  const given = process.env['OUTRIDER_PEERS'];
  const directory = given ?? installed(wanted);
  const folder = (peer: Peer) => join(directory, 'node_modules', nameOf(peer));
  for (const peer of wanted)
    if (!existsSync(folder(peer))) throw new Error(`${PEERS[peer]} is not in ${directory}`);
  return {
    program(peer, name) {
      const { bin } = JSON.parse(readFileSync(join(folder(peer), 'package.json'), 'utf8'));
      const path = typeof bin === 'string' ? bin : bin?.[name ?? Object.keys(bin)[0] ?? ''];
      if (typeof path !== 'string') throw new Error(`${PEERS[peer]} has no such program`);
      return join(folder(peer), path);
    },
    file: (peer, path) => join(folder(peer), path),
    remove() {
      if (given === undefined) rmSync(directory, { recursive: true, force: true });
    },
  };
}

function installed(wanted: readonly Peer[]): string {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-peers-'));
  process.stderr.write(`installing ${wanted.map((peer) => PEERS[peer]).join(', ')}\n`);
  const options = [
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    '--ignore-scripts',
    '--prefix',
    directory,
  ];
  const { status } = spawnSync(
    'npm',
    ['install', ...options, ...wanted.map((peer) => PEERS[peer])],
    {
      stdio: ['ignore', 2, 2],
    },
  );
  if (status !== 0) throw new Error('npm could not install the peers: the lines above say why');
  return directory;
}

function nameOf(peer: Peer): string {
  return PEERS[peer].slice(0, PEERS[peer].lastIndexOf('@'));
}
