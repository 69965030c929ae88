import { spawnSync } from 'node:child_process';

/** One item of a descriptor in buf's JSON; what is absent is empty. */
interface Declared {
  readonly name: string;
  readonly package?: string;
  readonly dependency?: readonly string[];
  readonly messageType?: readonly Declared[];
  readonly nestedType?: readonly Declared[];
  readonly enumType?: readonly Declared[];
  readonly field?: readonly Declared[];
  readonly value?: readonly Declared[];
  readonly service?: readonly Declared[];
  readonly method?: readonly Declared[];
}

/**
 * The text of proto/gen/descriptors.ts: of every proto file its name, what it imports, declares and serves, and its serialised
 * descriptor, so that a server can describe itself without a parser of protos.
 */
export function descriptors(): string {
  const { file }: { file: readonly Declared[] } = JSON.parse(build('json').toString('utf8'));
  const binary = split(build('binpb'));
  const entries = file.map((one, at) => {
    const scope = one.package ?? '';
    return {
      name: one.name,
      imports: one.dependency ?? [],
      services: (one.service ?? []).map(({ name }) => `${scope}.${name}`),
      symbols: symbolsOf(scope, one),
      descriptor: binary[at]?.toString('base64') ?? '',
    };
  });
  return `// Made by tools/descriptors.ts from the protos. DO NOT EDIT.

export interface ProtoFile {
  readonly name: string;
  readonly imports: readonly string[];
  /** Full names. */
  readonly services: readonly string[];
  /** Full names of everything that it declares. */
  readonly symbols: readonly string[];
  /** A serialised google.protobuf.FileDescriptorProto, in base64. */
  readonly descriptor: string;
}

export const PROTO_FILES: readonly ProtoFile[] = ${JSON.stringify(entries, undefined, 2)};
`;
}

function build(format: string): Buffer {
  const argv = [
    'build',
    '-o',
    `-#format=${format}`,
    '--as-file-descriptor-set',
    '--exclude-source-info',
  ];
  const { status, stdout } = spawnSync('buf', argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  if (status !== 0) throw new Error('buf build failed');
  return stdout;
}

function symbolsOf(scope: string, one: Declared): string[] {
  const inner = (items: readonly Declared[] = []): string[] =>
    items.flatMap((item) => [`${scope}.${item.name}`, ...symbolsOf(`${scope}.${item.name}`, item)]);
  // The values of an enum stand beside it, not in it.
  const values = (one.enumType ?? []).flatMap(({ value = [] }) => inner(value));
  const enums = (one.enumType ?? []).map(({ name }) => `${scope}.${name}`);
  return [
    ...inner(one.messageType),
    ...inner(one.nestedType),
    ...inner(one.field),
    ...enums,
    ...values,
    ...inner(one.service),
    ...inner(one.method),
  ];
}

/** The items of a FileDescriptorSet, whose one field is the repeated field 1. */
function split(set: Buffer): Buffer[] {
  const items: Buffer[] = [];
  for (let at = 0; at < set.length; ) {
    if (set[at++] !== 0x0a) throw new Error('not a FileDescriptorSet');
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = set[at++] ?? 0;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    items.push(set.subarray(at, at + length));
    at += length;
  }
  return items;
}
