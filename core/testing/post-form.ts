import { request } from 'node:http';

/** What a server on a unix socket said. */
export interface FormAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: Readonly<Record<string, unknown>>;
}

/** For tests alone. Posts a form to a server on a unix socket, which answers with a JSON object. */
export function postForm(
  socketPath: string,
  path: string,
  form: URLSearchParams | string,
  headers: Readonly<Record<string, string>> = {},
): Promise<FormAnswer> {
  return new Promise((resolve, reject) => {
    const sent = request({
      socketPath,
      path,
      method: 'POST',
      headers: {
        host: 'localhost',
        'content-type': 'application/x-www-form-urlencoded',
        ...headers,
      },
    });
    sent.on('error', reject);
    sent.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => (text += piece));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: JSON.parse(text),
        }),
      );
    });
    sent.end(form.toString());
  });
}
