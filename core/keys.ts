import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { OutriderError } from './errors.ts';
import { isRecord } from './is-record.ts';
import { LOCAL_PRINCIPAL } from './principal.ts';
import { ensurePrivateDir, writePrivateFile } from './runtime-dir.ts';
import { generateSigningKey, publicIssuer, type SigningKey, type TrustedIssuer } from './tokens.ts';

/**
 * The key files of one mesh. Each process is given the path of its own private key and of the public lists it needs;
 * nothing but `createKeySet` writes them.
 */
export interface KeySet {
  /** Signs principal assertions at the gateway. */
  readonly gateway: string;
  /** Signs the local principal's assertion; held by the supervisor. */
  readonly local: string;
  /** Signs execution tokens at the runner. */
  readonly runner: string;
  /** Public keys of `gateway` and `local`. */
  readonly assertionIssuers: string;
  /** Public keys of `runner`. */
  readonly executionIssuers: string;
}

export const ISSUER = {
  gateway: 'outrider:gateway',
  local: 'outrider:local',
  runner: 'outrider:runner',
} as const;

export function keySetPaths(directory: string): KeySet {
  return {
    gateway: join(directory, 'gateway.key.json'),
    local: join(directory, 'local.key.json'),
    runner: join(directory, 'runner.key.json'),
    assertionIssuers: join(directory, 'assertion-issuers.json'),
    executionIssuers: join(directory, 'execution-issuers.json'),
  };
}

/** Makes new keys for one mesh in `directory` (made 0700), each file 0600. Replaces keys that are there. */
export function createKeySet(directory: string): KeySet {
  ensurePrivateDir(directory);
  const paths = keySetPaths(directory);
  const [gateway, local, runner] = [ISSUER.gateway, ISSUER.local, ISSUER.runner].map(
    generateSigningKey,
  );
  if (!gateway || !local || !runner) throw new Error('unreachable: three issuers make three keys');
  writePrivateFile(paths.gateway, JSON.stringify(gateway));
  writePrivateFile(paths.local, JSON.stringify(local));
  writePrivateFile(paths.runner, JSON.stringify(runner));
  writePrivateFile(
    paths.assertionIssuers,
    JSON.stringify([publicIssuer(gateway), publicIssuer(local, [LOCAL_PRINCIPAL.issuer])]),
  );
  writePrivateFile(paths.executionIssuers, JSON.stringify([publicIssuer(runner)]));
  return paths;
}

/**
 * The key that signs one part's audit checkpoints: `<directory>/<part>.audit.key.json`, made when missing, with its public
 * half beside it in `<part>.audit.pub.json`. It outlives a run, so that old audit files can be verified.
 */
export function auditSigningKey(directory: string, part: string): SigningKey {
  ensurePrivateDir(directory);
  const path = join(directory, `${part}.audit.key.json`);
  if (existsSync(path)) return readSigningKey(path);
  const key = generateSigningKey(`outrider:audit:${part}`);
  writePrivateFile(path, JSON.stringify(key));
  writePrivateFile(join(directory, `${part}.audit.pub.json`), JSON.stringify([publicIssuer(key)]));
  return key;
}

/** @throws {OutriderError} CONFIG_INVALID */
export function readSigningKey(path: string): SigningKey {
  const value = readJson(path);
  if (
    isRecord(value) &&
    typeof value['issuer'] === 'string' &&
    isRecord(value['jwk']) &&
    typeof value['jwk']['d'] === 'string'
  ) {
    return { issuer: value['issuer'], jwk: value['jwk'] };
  }
  throw new OutriderError(
    'CONFIG_INVALID',
    `${path} is not a signing key: make keys with \`outrider keys DIRECTORY\``,
  );
}

/** @throws {OutriderError} CONFIG_INVALID */
export function readTrustedIssuers(path: string): TrustedIssuer[] {
  const value = readJson(path);
  if (!Array.isArray(value))
    throw new OutriderError('CONFIG_INVALID', `${path} is not a list of trusted issuers`);
  return value.map((entry: unknown) => {
    if (!isRecord(entry) || typeof entry['issuer'] !== 'string' || !Array.isArray(entry['keys'])) {
      throw new OutriderError('CONFIG_INVALID', `${path} is not a list of trusted issuers`);
    }
    const keys: unknown[] = entry['keys'];
    const vouchesFor: unknown = entry['vouchesFor'];
    return {
      issuer: entry['issuer'],
      keys: keys.filter(isRecord),
      ...(Array.isArray(vouchesFor)
        ? { vouchesFor: vouchesFor.filter((idp) => typeof idp === 'string') }
        : {}),
    };
  });
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new OutriderError(
      'CONFIG_INVALID',
      `${path} cannot be read: make keys with \`outrider keys DIRECTORY\`, or start the mesh with \`outrider up\``,
      { cause: error },
    );
  }
}
