import { type Path, parsePath, textBehind } from '../path.ts';

/** What a copy is made of. */
export interface CopySource {
  readonly bucket: string;
  /** Its key. */
  readonly path: Path;
}

/**
 * The value of `x-amz-copy-source`, decoded once and held to what holds for a path. Undefined for a version of an object, and for
 * whatever two readers could take for different keys.
 */
export function copySource(value: string): CopySource | undefined {
  // Some programs encode its slashes too. A plus is a space to some servers.
  const path = parsePath(`/${value.replace(/^\//, '').replaceAll('%2F', '/')}`);
  if (typeof path === 'string' || path.text.includes('+')) return undefined;
  const [bucket = '', ...segments] = path.segments;
  if (bucket === '' || !segments[0]) return undefined;
  return { bucket, path: { text: textBehind(path, 1), segments } };
}

/** As S3 has it. */
const DELETED_MAX = 1000;
const DELETE =
  /^(?:<\?xml version=["']1\.0["'](?: encoding=["'][Uu][Tt][Ff]-8["'])? ?\?>)?<Delete(?: xmlns="http:\/\/s3\.amazonaws\.com\/doc\/2006-03-01\/")?>(.*)<\/Delete>$/s;
const ELEMENT = /<Quiet>(?:true|false)<\/Quiet>|<Object><Key>([^<>]+)<\/Key><\/Object>/y;
const ENTITIES: Readonly<Record<string, string>> = {
  '&amp;': '&',
  '&lt;': '<',
  '&gt;': '>',
  '&quot;': '"',
  '&#34;': '"',
  '&apos;': "'",
  '&#39;': "'",
};

/**
 * The keys that the body of DeleteObjects names; undefined where it is written otherwise than clients write it, names a version, or has
 * a key that no path could name.
 */
export function deletedKeys(xml: string): readonly Path[] | undefined {
  const [, elements] = DELETE.exec(xml.trim().replace(/>[ \t\r\n]+</g, '><')) ?? [];
  if (elements === undefined) return undefined;
  const paths: Path[] = [];
  for (let at = 0; at < elements.length; at = ELEMENT.lastIndex) {
    ELEMENT.lastIndex = at;
    const found = ELEMENT.exec(elements);
    if (!found) return undefined;
    if (found[1] === undefined) continue;
    const path = pathOf(found[1]);
    if (!path || paths.push(path) > DELETED_MAX) return undefined;
  }
  return paths.length === 0 ? undefined : paths;
}

function pathOf(written: string): Path | undefined {
  const key = written.replace(/&[#a-z0-9]*;?/g, (entity) => ENTITIES[entity] ?? '\0');
  // Some readers of XML take white space at the ends away.
  if (key !== key.trim()) return undefined;
  const path = parsePath(`/${key.split('/').map(encodeURIComponent).join('/')}`);
  return typeof path === 'string' || path.text === '/' ? undefined : path;
}
