import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { AnsweringConnection, settled } from './connection.ts';
import { type Reader, ReadingInProgress } from './reading.ts';

/** Above what any case has, so that no reader refuses what is only long. */
const HEAD_MAX_BYTES = 1_048_576;

/** The client of node:http, which is llhttp, with all its checks or with none. */
export function nodeReader(name: string, lenient: boolean): Reader {
  return {
    name,
    read: async (method, text, ended) => {
      const connection = new AnsweringConnection(text, ended);
      const progress = new ReadingInProgress();
      const client = request({
        method,
        insecureHTTPParser: lenient,
        maxHeaderSize: HEAD_MAX_BYTES,
        createConnection: () => connection,
      });
      listen(client, progress);
      client.end();
      await settled(connection, progress);
      client.destroy();
      connection.destroy();
      return progress.reading();
    },
    stop: () => {},
  };
}

function listen(client: ClientRequest, progress: ReadingInProgress): void {
  client.on('information', ({ statusCode, rawHeaders }) => progress.head(statusCode, rawHeaders));
  client.on('upgrade', () => progress.refuse()); // nobody asked for it
  client.on('error', () => progress.refuse());
  client.on('response', (response: IncomingMessage) => {
    progress.head(response.statusCode ?? 0, response.rawHeaders);
    response.on('error', () => progress.refuse());
    response.on('data', (chunk: Buffer) => progress.data(chunk));
    response.on('end', () => {
      if (response.complete) progress.end(response.rawTrailers);
      else progress.refuse();
    });
  });
}
