import { createServer } from 'node:http';
import { answerJson, closeServer, listen } from '#core/http';

/** One request as the API got it. */
export interface Asked {
  readonly url: string | undefined;
  readonly authorization: string | undefined;
}

/** What the policies call `http/example`: an API that answers nobody without its bearer token. */
export interface ExampleApi {
  readonly asked: readonly Asked[];
  readonly close: () => Promise<void>;
}

export async function startExampleApi(port: number, token: string): Promise<ExampleApi> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const { url, headers } = request;
    asked.push({ url, authorization: headers.authorization });
    if (headers.authorization === `Bearer ${token}`) answerJson(response, 200, { items: 3 });
    else answerJson(response, 401, {});
  });
  await listen(server, { kind: 'tcp', host: '127.0.0.1', port });
  return { asked, close: () => closeServer(server) };
}
