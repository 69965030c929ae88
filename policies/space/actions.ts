import type { Method, Protocol } from '../document.ts';
import { METHODS, REQUEST_PROTOCOLS, type RequestProtocol } from '../target.ts';

/** A method in a protocol. */
export interface Action {
  readonly method: Method;
  readonly protocol: RequestProtocol;
}

/** A set of actions as bits. */
export type ActionSet = number;

/** Every action that a request can be: a WebSocket begins with GET, gRPC is POST. Plain ones first. */
const ACTIONS: readonly Action[] = REQUEST_PROTOCOLS.flatMap((protocol) =>
  METHODS.filter(
    (method) =>
      (protocol !== 'websocket' || method === 'GET') && (protocol !== 'grpc' || method === 'POST'),
  ).map((method) => ({ method, protocol })),
);

export const EVERY_ACTION: ActionSet = (1 << ACTIONS.length) - 1;
/** What no request is: an opaque tunnel. */
export const OPAQUE: ActionSet = 1 << ACTIONS.length;

/** Those of some methods in some protocols. */
export function actionSet(
  methods: 'any' | readonly Method[],
  protocols: 'any' | readonly Protocol[] = 'any',
): ActionSet {
  let set: ActionSet = 0;
  for (const [bit, { method, protocol }] of ACTIONS.entries()) {
    const has =
      (methods === 'any' || methods.includes(method)) &&
      (protocols === 'any' || protocols.includes(protocol));
    if (has) set |= 1 << bit;
  }
  return set;
}

/** Sets of one, GET over HTTP/1.1 first. */
export function singleActions(set: ActionSet): ActionSet[] {
  const singles: ActionSet[] = [];
  for (let bit = 1; bit <= OPAQUE; bit <<= 1) if ((set & bit) !== 0) singles.push(bit);
  return singles;
}

/** The action of a set of one; undefined for an opaque tunnel. */
export function actionOf(single: ActionSet): Action | undefined {
  return ACTIONS[31 - Math.clz32(single)];
}
