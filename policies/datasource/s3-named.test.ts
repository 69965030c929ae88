import assert from 'node:assert/strict';
import { test } from 'node:test';
import { copySource, deletedKeys } from './s3-named.ts';

const SOURCES: readonly (readonly [value: string, read: string | undefined])[] = [
  ['data/tenantA/k', 'data: /tenantA/k'],
  ['/data/tenantA/k', 'data: /tenantA/k'],
  ['data%2FtenantA%2Fk', 'data: /tenantA/k'],
  ['data/tenantA/a%20b%2B%C3%BC', 'data: /tenantA/a%20b%2B%C3%BC'],
  ['data/tenantA/', 'data: /tenantA/'],
  ['arn:aws:s3:eu-central-1:1:accesspoint/x', 'arn:aws:s3:eu-central-1:1:accesspoint: /x'],
  ['', undefined],
  ['/', undefined],
  ['data', undefined],
  ['data/', undefined],
  ['//data/k', undefined],
  ['/%2Fdata/k', undefined],
  ['data//k', undefined],
  ['data/tenantA/../k', undefined],
  ['data/tenantA%2F..%2Fk', undefined],
  ['data/tenantA/%2e%2e/k', undefined],
  ['data/tenantA/%2E%2E/k', undefined],
  ['data/tenantA/%252E%252E/k', undefined],
  ['data/tenantA%252Fk', undefined],
  ['data/tenantA/./k', undefined],
  ['data\\tenantA\\k', undefined],
  ['data/tenantA/..%5Ck', undefined],
  ['data/a+b', undefined],
  ['data/a;b', undefined],
  ['data/a%00b', undefined],
  ['data/%FF', undefined],
  ['data/%', undefined],
  ['data/tenantA/k?versionId=1', undefined],
  ['data/tenantA/k#', undefined],
  [' data/tenantA/k', undefined],
  ['data/a,data/b', 'data: /a,data/b'],
];

for (const [value, read] of SOURCES)
  test(`F3: a copy source ${JSON.stringify(value)} is ${read ?? 'refused'}`, () => {
    const source = copySource(value);
    assert.equal(source && `${source.bucket}: ${source.path.text}`, read);
  });

const NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"';
const one = (key: string) => `<Object><Key>${key}</Key></Object>`;
const BODIES: readonly (readonly [what: string, body: string, keys: string[] | undefined])[] = [
  ['one key', `<Delete>${one('a')}</Delete>`, ['/a']],
  [
    'as SDKs write it',
    `<?xml version="1.0" encoding="UTF-8"?>\n<Delete ${NS}>\n  <Object>\n <Key>a/b &amp;&#34;&lt;</Key>\n</Object>${one('ü')}<Quiet>true</Quiet></Delete>\n`,
    ['/a/b%20%26%22%3C', '/%C3%BC'],
  ],
  ['no body', '', undefined],
  ['no key', '<Delete></Delete>', undefined],
  ['an empty key', `<Delete>${one('')}</Delete>`, undefined],
  ['a slash alone', `<Delete>${one('/')}</Delete>`, undefined],
  ['dots', `<Delete>${one('tenantA/../k')}</Delete>`, undefined],
  ['a backslash', `<Delete>${one('tenantA\\..\\k')}</Delete>`, undefined],
  ['a percent', `<Delete>${one('tenantA/%2E')}</Delete>`, undefined],
  ['white space at an end', `<Delete>${one(' a')}</Delete>`, undefined],
  ['a control character', `<Delete>${one('a\nb')}</Delete>`, undefined],
  ['another entity', `<Delete>${one('&x;')}</Delete>`, undefined],
  ['a number of a dot', `<Delete>${one('&#46;&#46;/k')}</Delete>`, undefined],
  ['a lone ampersand', `<Delete>${one('a&b')}</Delete>`, undefined],
  ['CDATA', `<Delete>${one('<![CDATA[a]]>')}</Delete>`, undefined],
  ['a comment', `<Delete>${one('a<!-- -->b')}</Delete>`, undefined],
  ['a doctype', `<!DOCTYPE Delete [<!ENTITY amp "x">]><Delete>${one('&amp;')}</Delete>`, undefined],
  [
    'a version',
    '<Delete><Object><Key>a</Key><VersionId>1</VersionId></Object></Delete>',
    undefined,
  ],
  ['two keys in one', '<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>', undefined],
  ['another namespace', `<Delete xmlns="x">${one('a')}</Delete>`, undefined],
  [
    'another encoding',
    `<?xml version="1.0" encoding="UTF-7"?><Delete>${one('a')}</Delete>`,
    undefined,
  ],
  ['two documents', `<Delete>${one('a')}</Delete><Delete>${one('b')}</Delete>`, undefined],
  ['text between', `<Delete>x${one('a')}</Delete>`, undefined],
];

for (const [what, body, keys] of BODIES)
  test(`F3: DeleteObjects with ${what} names ${keys?.join(' ') ?? 'nothing that is understood'}`, () =>
    assert.deepEqual(
      deletedKeys(body)?.map(({ text }) => text),
      keys,
    ));

test('F3: DeleteObjects names a thousand keys, and no more', () => {
  const body = (count: number) => `<Delete>${one('a').repeat(count)}</Delete>`;
  assert.equal(deletedKeys(body(1000))?.length, 1000);
  assert.equal(deletedKeys(body(1001)), undefined);
});
