/** One answer of HTTP/1.1 as it came. */
export interface Answer {
  readonly status: number;
  readonly reasonPhrase: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
}

/** The answers that the bytes are, interim ones left out; a last one that is cut counts with what is there of it. */
export function readAnswers(bytes: Buffer): Answer[] {
  const found: Answer[] = [];
  let rest = bytes.toString('latin1');
  for (;;) {
    const [, status = '', reasonPhrase = '', fields = ''] =
      /^HTTP\/1\.[01] (\d{3}) ?([^\r\n]*)((?:\r\n[^\r\n]+)*)\r\n\r\n/.exec(rest) ?? [];
    if (status === '') return found;
    const headers = fields
      .split('\r\n')
      .slice(1)
      .map(
        (line) =>
          [line.split(':', 1)[0]?.toLowerCase() ?? '', line.replace(/^[^:]*: ?/, '')] as const,
      );
    rest = rest.slice(rest.indexOf('\r\n\r\n') + 4);
    if (status.startsWith('1') && status !== '101') continue;
    const [body, behind] = bodyOf(rest, headers);
    found.push({ status: Number(status), reasonPhrase, headers, body });
    rest = behind;
  }
}

/** The first value of a header, by its lower-case name. */
export function headerIn(answer: Answer | undefined, name: string): string | undefined {
  return answer?.headers.find(([key]) => key === name)?.[1];
}

function bodyOf(text: string, headers: Answer['headers']): [body: string, behind: string] {
  const value = (name: string) => headers.find(([key]) => key === name)?.[1];
  const length = value('content-length');
  if (length !== undefined) return [text.slice(0, Number(length)), text.slice(Number(length))];
  if (value('transfer-encoding') === undefined) return [text, ''];
  let body = '';
  let rest = text;
  for (;;) {
    const [line = '', size = '0'] = /^([0-9a-fA-F]+)[^\r\n]*\r\n/.exec(rest) ?? [];
    const count = Number.parseInt(size, 16);
    if (line === '' || count === 0) return [body, rest.replace(/^0\r\n\r\n/, '')];
    body += rest.slice(line.length, line.length + count);
    rest = rest.slice(line.length + count + 2);
  }
}
