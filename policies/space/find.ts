import { OutriderError } from '#core/errors';
import type { Scheme } from '../document.ts';
import { authorityText } from '../host.ts';
import { formatIp } from '../ip.ts';
import { QUERY_MAX } from '../path.ts';
import { DEFAULT_PORT } from '../target.ts';
import { type ActionSet, actionOf, singleActions } from './actions.ts';
import {
  type AddressSet,
  addressIn,
  addressSet,
  EVERY_ADDRESS,
  REACHABLE,
  WRITABLE,
  withoutAddresses,
} from './address-set.ts';
import type { Box } from './box.ts';
import type { Filed, Layer } from './layer.ts';
import { unnamedHost } from './name-tree.ts';
import { clearPaths } from './path-trie.ts';
import { goesBefore, type Precedence } from './precedence.ts';
import { type Parameter, parameterBeyond } from './query-space.ts';

/** Boxes to stay clear of: all of a layer, or all that go before a grant. */
export interface Avoided {
  readonly layer: Layer<Filed>;
  readonly before?: Precedence;
}

/** One request of a set, as PolicyTests write it. */
export interface Witness {
  readonly request: string;
  /** Where addresses were looked at and the host is a name: what the name is supposed to lead to. */
  readonly resolve?: string;
}

/**
 * A request in `box` and in none of `avoided`, or undefined where there is none: exact. For requests to names, addresses count
 * only if `resolved`; until then, what names addresses holds none of them, as in `decide`.
 *
 * Every dimension but addresses has a best choice: a name, a segment or a parameter that nobody names is in the fewest boxes. So
 * only path lengths, schemes, ports, methods and protocols are tried in turn.
 * @throws {OutriderError} POLICY_INVALID where query patterns are too complicated to compare
 */
export function find(box: Box, avoided: readonly Avoided[], resolved = false): Witness | undefined {
  const host = hostOf(box, avoided);
  if (host === undefined) return undefined;
  const roots = avoided.flatMap(({ layer, before }) => {
    const counts =
      before &&
      ((item: Filed) => item.precedence !== undefined && goesBefore(item.precedence, before));
    return layer.around(box).map((root) => ({ root, counts }));
  });
  const looksAtAddresses = resolved || box.place.kind === 'address';
  const choose = (items: readonly Filed[]) => clearChoice(box, items, looksAtAddresses);
  for (const { path, items } of clearPaths(roots, box.path, (open) => !choose(open))) {
    const choice = choose(items);
    if (choice) return witness(box, host, path, choice);
  }
  return undefined;
}

/** Null: the address is the host. */
function hostOf({ place }: Box, avoided: readonly Avoided[]): string | null | undefined {
  if (place.kind === 'address') return null;
  if (place.kind === 'datasource') return place.key ?? 'http/any';
  return unnamedHost(
    avoided.map(({ layer }) => layer.names),
    place.pattern,
  );
}

/** What is left to choose once host and path stand. */
interface Choice {
  readonly scheme: Scheme;
  readonly port: number;
  readonly action: ActionSet;
  readonly parameters: readonly Parameter[];
  readonly address: Uint8Array | null;
}

function clearChoice(
  box: Box,
  items: readonly Filed[],
  looksAtAddresses: boolean,
): Choice | undefined {
  for (const scheme of box.scheme === null ? SCHEMES : [box.scheme]) {
    for (const port of portsToTry(box, scheme, items)) {
      const meet = items.filter(
        (item) =>
          (item.box.scheme === null || item.box.scheme === scheme) &&
          (item.box.ports === null || item.box.ports.has(port)),
      );
      for (const action of singleActions(freeActions(box, meet))) {
        const left = meet.filter((item) => (item.box.actions & action) !== 0);
        const rest = clearRest(box, left, looksAtAddresses);
        if (rest) return { scheme, port, action, ...rest };
      }
    }
  }
  return undefined;
}

const SCHEMES: readonly Scheme[] = ['https', 'http'];

/** Where a box has every port: those that some item names, and one that none does. */
function portsToTry(box: Box, scheme: Scheme, items: readonly Filed[]): Iterable<number> {
  if (box.ports) return box.ports;
  const named = new Set(items.flatMap((item) => [...(item.box.ports ?? [])]));
  let unnamed: number = DEFAULT_PORT[scheme];
  while (named.has(unnamed) && unnamed < 65_535) unnamed++;
  return named.has(unnamed) ? named : [unnamed, ...named];
}

/** Without those that some item takes whatever query and address are. */
function freeActions(box: Box, items: readonly Filed[]): ActionSet {
  let free = box.actions;
  for (const item of items) {
    if (item.box.query === null && item.box.addresses === null) free &= ~item.box.actions;
  }
  return free;
}

/** Parameters and an address that lead out of every item. */
function clearRest(
  box: Box,
  items: readonly Filed[],
  looksAtAddresses: boolean,
): Pick<Choice, 'parameters' | 'address'> | undefined {
  const parameters: Parameter[] = [];
  const taken: AddressSet[] = [];
  for (const item of items) {
    const parameter = item.box.query && parameterBeyond(box.query, item.box.query);
    if (parameter) parameters.push(parameter);
    // Before a name is resolved, what names addresses does not hold it.
    else if (item.box.addresses) taken.push(item.box.addresses);
    else return undefined;
  }
  if (!looksAtAddresses) return { parameters, address: null };
  const left = withoutAddresses(box.addresses ?? EVERY_ADDRESS, addressSet(taken.flat()));
  const address = addressIn(left, box.place.kind === 'name' ? REACHABLE : WRITABLE);
  return address && { parameters, address };
}

function witness(box: Box, host: string | null, path: string, choice: Choice): Witness {
  const { address } = choice;
  const action = actionOf(choice.action);
  const rest = `${path}${queryText(choice.parameters)}`;
  const protocol = action && action.protocol !== 'http1' ? ` ${action.protocol}` : '';
  if (box.place.kind === 'datasource')
    return { request: `${action?.method} /${host}${rest}${protocol}` };
  const authority = (defaultPort: number) =>
    host === null && address
      ? authorityText({ text: formatIp(address), ip: address }, choice.port, defaultPort)
      : authorityText({ text: host ?? '', ip: null }, choice.port, defaultPort);
  const request = action
    ? `${action.method} ${choice.scheme}://${authority(DEFAULT_PORT[choice.scheme])}${rest}${protocol}`
    : `CONNECT ${authority(0)}`;
  return host === null || !address ? { request } : { request, resolve: formatIp(address) };
}

function queryText(parameters: readonly Parameter[]): string {
  const texts = parameters.map(
    ([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`,
  );
  const query = [...new Set(texts)].join('&');
  if (query.length > QUERY_MAX) {
    const message = 'too many rules with queries meet in one request: they cannot be compared';
    throw new OutriderError('POLICY_INVALID', message);
  }
  return query === '' ? '' : `?${query}`;
}
