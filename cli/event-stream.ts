/**
 * The `data` of each event of a `text/event-stream`, as it comes (WHATWG HTML section 9.2.6). Comments and other fields are
 * passed over, and so is an event without data or without its closing blank line.
 */
export async function* eventData(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let data: string[] = [];
  for await (const line of lines(chunks)) {
    if (line === '') {
      if (data.length > 0) yield data.join('\n');
      data = [];
    } else if (line === 'data') data.push('');
    else if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
  }
}

/** Lines ended by LF, CRLF or CR; what stands after the last end is not a line. */
async function* lines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of chunks) {
    rest += decoder.decode(chunk, { stream: true });
    let from = 0;
    // A CR at the very end may be half of a CRLF: it waits for the next chunk.
    for (const end of rest.matchAll(/\r\n|\n|\r(?!$)/g)) {
      yield rest.slice(from, end.index);
      from = end.index + end[0].length;
    }
    rest = rest.slice(from);
  }
  if (rest.endsWith('\r')) yield rest.slice(0, -1);
}
