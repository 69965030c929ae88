import { chownSync, rmSync } from 'node:fs';
import type { IncomingMessage, Server } from 'node:http';
import type { Http2ServerRequest, ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { TLSSocket } from 'node:tls';
import type { Address } from '#core/address';
import type { Clock } from '#core/clock';
import { listen } from '#core/http';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import { afterTime } from '#core/http1/after-time';
import { PlainServer } from '#core/http1/plain-server';
import { http2Head } from '#core/http2-head';
import { createServer, ServerResponse } from '#core/node-http';
import { TIMER_MAX_MS } from '#core/timer-max';
import { asksForWebSocket } from '#core/websocket';
import { type Reason, type RuleLimits, requestProtocol } from '#policies';
import { assertBound, type Binding, type Grant } from './binding.ts';
import { ConnectionPlaces, WAITING_MAX } from './connection-places.ts';
import { askDatasources, asksForDatasources, DISCOVERY } from './discovery.ts';
import type { Exchange } from './exchange.ts';
import { forward } from './forward.ts';
import { forwardStream } from './forward-stream.ts';
import { headerOf, headProblem, type Wire } from './framing.ts';
import { Http2Door } from './http2.ts';
import type { Journal } from './journal.ts';
import type { Measures } from './measures.ts';
import { Openings } from './openings.ts';
import { blame, type ParseFailure } from './parse-failure.ts';
import type { ProgramRequest, ProgramResponse } from './program-side.ts';
import { answerRefusal, Refused, refusalBytes, toRefused } from './refusal.ts';
import { assertBodySize, type BodyLimit, drain, readOn } from './request-body.ts';
import {
  assertHostAgrees,
  connectTarget,
  ingressOf,
  insideTarget,
  type Origin,
  requestTarget,
} from './request-target.ts';
import { readSocks, SOCKS_REPLY, SOCKS_VERSION, SocksRefused, socksReply } from './socks.ts';
import { StreamResponse } from './stream-response.ts';
import { Turns } from './turns.ts';
import { openWebSocket, type Upgrading } from './websocket.ts';

/** Bounds of one door, whatever policy says. */
export interface DoorLimits {
  readonly connections: number;
  readonly tunnels: number;
  readonly requestBytes: number;
  readonly headerBytes: number;
  readonly headerCount: number;
  readonly headerTimeoutMs: number;
  readonly bodyTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly helloTimeoutMs: number;
}

export interface DoorDeps {
  readonly limits: DoorLimits;
  readonly journal: Journal;
  /** Of this sandbox: its execs share the places of a rule, its neighbours have their own. */
  readonly ruleLimits: RuleLimits;
  readonly measures: Measures;
  /** The exec that is bound now. */
  readonly binding: () => Binding | undefined;
  readonly now: Clock;
  /** Told of faults of ours. */
  readonly onFault: (error: unknown, requestId: string) => void;
}

/** Requests of one connection that may be under way at once. */
const PIPELINE_MAX = 16;
const ESTABLISHED = Buffer.from('HTTP/1.1 200 Connection Established\r\n\r\n');
const NOTHING = Buffer.alloc(0);
/** How long a connection may wait for its first or next request. */
const KEEP_ALIVE_MS = 30_000;
/** How long a refusal waits for the rest of its request: where that cannot be read, it is what is answered and recorded. */
const REST_MS = 100;
/** Time for a refusal to be read before the connection goes. */
const PARTING_MS = 500;
/** When a place for a connection may be free again. */
const PLACES_BACK_MS = 1_000;

/** Whose limits hold. */
type Limited = Pick<Grant, 'policy' | 'limits'> & { readonly rule: string };

/** What a request is besides one. */
interface Wish {
  /** What is wrong with it already. */
  readonly problem?: Reason | undefined;
  readonly upgrading?: Upgrading;
  /** Of HTTP/2. */
  readonly stream?: ServerHttp2Stream;
}

interface Connection {
  /** Of HTTP/1.1. */
  readonly turns: Turns;
  /** The request of HTTP/1.1 whose turn it is, or was. */
  current: Exchange | undefined;
  /** The request of HTTP/1.1 that was begun last, answered or not. */
  begun: Pick<HttpRequest, 'complete'> | undefined;
  /** What that is refused for, while the rest of it is still read. */
  refusing: Refused | undefined;
  /** Nothing that arrives on it is looked at any more. */
  doomed: boolean;
  /** The last answer, once those before it are out. */
  parting: Buffer | undefined;
  /** Of one that was opened by CONNECT or SOCKS5 and is looked into: whose server it speaks to. */
  origin: Origin | undefined;
}

/**
 * The HTTP server of one sandbox, and its only way out: absolute form, CONNECT, SOCKS5 and datasource aliases. llhttp reads strictly, and
 * what it reads is checked again before anything is decided. A connection that carried something in doubt is closed.
 */
export class Door {
  readonly #deps: DoorDeps;
  readonly #server: Server;
  readonly #connections = new Map<Socket, Connection>();
  readonly #places: ConnectionPlaces;
  readonly #openings: Openings;
  readonly #http2: Http2Door;
  /** Takes connections that carry HTTP/1.1. */
  readonly #http1: PlainServer;

  private constructor(deps: DoorDeps) {
    this.#deps = deps;
    const { limits } = deps;
    this.#server = createServer({
      insecureHTTPParser: false,
      requireHostHeader: false, // the door's own check answers and records it
      maxHeaderSize: limits.headerBytes,
      headersTimeout: limits.headerTimeoutMs,
      requestTimeout: Math.max(limits.bodyTimeoutMs, limits.headerTimeoutMs),
      connectionsCheckingInterval: Math.min(1_000, limits.headerTimeoutMs),
      keepAliveTimeout: KEEP_ALIVE_MS,
      // Any other wish for another protocol is a request like any other, and refused as one.
      shouldUpgradeCallback: ({ rawHeaders }) => asksForWebSocket(rawHeaders),
    });
    // Above the door's own bound, which answers by its own reason.
    this.#server.maxHeadersCount = Math.max(2_000, limits.headerCount + 1);
    this.#server.maxConnections = limits.connections + WAITING_MAX;
    this.#places = new ConnectionPlaces(limits.connections);
    // The door looks at a connection first, and hands over what is HTTP.
    const [readHttp] = this.#server.listeners('connection');
    const toNode = (socket: Socket): void => void readHttp?.call(this.#server, socket);
    this.#http1 = new PlainServer(this.#server, toNode, limits.headerBytes);
    this.#openings = new Openings({
      limits,
      measures: deps.measures,
      now: deps.now,
      limit: (exchange, grant) => this.#limit(exchange, grant),
      serve: (socket, origin) => this.#serveInside(socket, origin),
      refuse: (exchange, refused) => this.#refuse(exchange, refused),
    });
    this.#http2 = new Http2Door({
      ...limits,
      serve: (socket, request, stream) => void this.#serveStream(socket, request, stream),
      refuse: (refused) => void this.#recordUnreadable(refused, 'intercept'),
    });
    this.#server
      .removeAllListeners('connection')
      .on('connection', (socket: Socket) => this.#connected(socket))
      .on('request', (request, response) => this.#serveInTurn(request, response))
      .on('checkContinue', (request, response) => this.#serveInTurn(request, response))
      .on('checkExpectation', (request, response) => this.#serveInTurn(request, response))
      .on('upgrade', (request, socket: Socket, head) => this.#upgrade(request, socket, head))
      .on('connect', (request, socket: Socket, head) => void this.#connect(request, socket, head))
      .on('clientError', (error: ParseFailure, socket: Socket) => this.#unreadable(error, socket))
      .on('drop', () => this.#dropped());
  }

  /**
   * Listens; a unix socket belongs to `owner`, mode 0600. Without one its directory says who may connect: mode 0660, of this process's user
   * and the directory's group where the directory passes that on.
   * @throws {OutriderError} ADDRESS_IN_USE, CONFIG_INVALID
   */
  static async open(
    address: Address,
    owner: { readonly uid: number; readonly gid: number } | undefined,
    deps: DoorDeps,
  ): Promise<{ door: Door; address: Address }> {
    const door = new Door(deps);
    const bound = await listen(door.#server, address, owner ? 0o600 : 0o660);
    try {
      if (bound.kind === 'unix' && owner) chownSync(bound.path, owner.uid, owner.gid);
    } catch (error) {
      door.close();
      throw error;
    }
    return { door, address: bound };
  }

  /** Cuts every connection; new ones are still taken while an exec is bound. */
  cutConnections(): void {
    for (const socket of this.#connections.keys()) socket.destroy();
  }

  /** Stops listening, removes the socket file and cuts every connection, all before it returns. */
  close(): void {
    const bound = this.#server.address();
    this.#server.close();
    this.cutConnections();
    if (typeof bound === 'string') rmSync(bound, { force: true });
  }

  /** A connection belongs to the exec that is bound when it comes; where none is, not a byte of it is read. */
  #connected(socket: Socket): void {
    if (this.#deps.binding() === undefined) {
      socket.destroy();
      return;
    }
    this.#track(socket, undefined);
    this.#places.take(
      socket,
      () => this.#admitted(socket),
      () => this.#turnAway(socket),
    );
  }

  #admitted(socket: Socket): void {
    const { heldMs } = this.#deps.journal;
    // Many refusals end their connection, whose program nobody can keep waiting: so it waits with the next.
    if (heldMs > 0) setTimeout(() => this.#read(socket), heldMs).unref();
    else this.#read(socket);
  }

  #read(socket: Socket): void {
    if (socket.destroyed) return;
    firstBytes(socket, this.#deps.limits.headerTimeoutMs, ([version]) => {
      if (version === SOCKS_VERSION) void this.#socks(socket);
      else this.#http1.accept(socket);
    });
  }

  #track(socket: Socket, origin: Origin | undefined): void {
    this.#connections.set(socket, {
      turns: new Turns(),
      current: undefined,
      begun: undefined,
      refusing: undefined,
      doomed: false,
      parting: undefined,
      origin,
    });
    socket.on('error', () => {});
    socket.once('close', () => {
      this.#connections.get(socket)?.turns.clear();
      this.#connections.delete(socket);
    });
  }

  /** What comes on the socket from now on are requests to `origin`. */
  #serveInside(socket: Socket, origin: Origin): void {
    const connection = this.#connections.get(socket);
    if (connection) connection.origin = origin;
    else this.#track(socket, origin);
    if (socket instanceof TLSSocket && socket.alpnProtocol === 'h2') {
      this.#http2.accept(socket);
      return;
    }
    // A program may open a connection long before it asks: there is no request yet that could be late.
    firstBytes(socket, KEEP_ALIVE_MS, (bytes) => {
      if (origin.scheme === 'http' && beginsHttp2(bytes)) this.#http2.accept(socket);
      else this.#http1.accept(socket);
    });
  }

  #serveInTurn(request: HttpRequest, response: HttpResponse): void {
    const { socket } = request;
    const connection = this.#connections.get(socket);
    if (!connection || connection.doomed) return;
    connection.begun = request;
    const { turns } = connection;
    const problem = turns.size >= PIPELINE_MAX ? 'pipeline_limit' : undefined;
    if (problem) {
      connection.doomed = true;
      // Thousands more may wait: Node would make a request of each.
      stopReading(socket);
    }
    response.once('close', () => this.#settled(socket, connection));
    turns.take(
      () => void this.#serve(request, response, connection, { problem }),
      () => request.complete,
    );
  }

  /** One stream of HTTP/2, as the request that HTTP/1.1 would have made of it. */
  async #serveStream(
    socket: Socket,
    request: Http2ServerRequest,
    stream: ServerHttp2Stream,
  ): Promise<void> {
    const connection = this.#connections.get(socket);
    if (!connection || connection.doomed) return;
    const { rawHeaders } = request;
    const head = http2Head(rawHeaders);
    const plain = head?.rawHeaders ?? [];
    // Here the end of a body is a frame, whether or not somebody says its length.
    const unsaid = !stream.endAfterHeaders && headerOf(plain, 'content-length') === undefined;
    if (unsaid) plain.push('transfer-encoding', 'chunked');
    rawHeaders.splice(0, rawHeaders.length, ...plain);
    const contentType = headerOf(plain, 'content-type');
    const grpc = requestProtocol({ http2: true, websocket: false, contentType }) === 'grpc';
    const problem =
      request.method === 'CONNECT' ? 'connect_not_allowed' : head ? undefined : 'host_mismatch';
    const response = new StreamResponse(stream, grpc);
    await this.#serve(request, response, connection, { problem, stream });
  }

  /** One request: each step takes what the last one proved, and any refusal ends up in the one catch. */
  async #serve(
    request: ProgramRequest,
    response: ProgramResponse,
    connection: Connection,
    { problem, upgrading, stream }: Wish,
  ): Promise<void> {
    // A stream ends alone, and where the next one begins nobody has to guess.
    const multiplexed = stream !== undefined;
    let exchange: Exchange | undefined;
    try {
      const { origin } = connection;
      const ingress = origin ? 'intercept' : ingressOf(request.url ?? '');
      exchange = this.#begin(ingress, request);
      if (!multiplexed) connection.current = exchange;
      const { requestId } = exchange;
      exchange.onCut((refused) =>
        answerRefusal({ request, response }, refused, requestId, !multiplexed),
      );
      if (problem) throw new Refused(problem, problem === 'host_mismatch' ? { status: 400 } : {});
      this.#assertSound(request, wireOf(multiplexed, upgrading));
      const protocol = requestProtocol({
        http2: multiplexed,
        websocket: upgrading !== undefined,
        contentType: headerOf(request.rawHeaders, 'content-type'),
      });
      if (ingress === 'alias' && asksForDatasources(request)) {
        const bound = assertBound(exchange.binding);
        this.#limit(exchange, DISCOVERY);
        askDatasources({ exchange, request, response, binding: bound, nowMs: this.#deps.now() });
        return;
      }
      const target = origin
        ? insideTarget(request, origin, protocol)
        : requestTarget(request, protocol);
      exchange.target = target;
      const binding = assertBound(exchange.binding);
      const nowMs = this.#deps.now();
      const grant = binding.permit(target, nowMs);
      exchange.grant = grant;
      assertHostAgrees(request, ingress, origin);
      const requestLimit = this.#bodyLimit(grant);
      assertBodySize(request, requestLimit);
      if (upgrading) this.#openings.occupy(exchange);
      this.#limit(exchange, grant);
      const call = { exchange, request, response, target, grant, binding, nowMs, requestLimit };
      const isHttp2 = protocol === 'grpc' || !grant.protocols.includes('http1');
      if (upgrading) openWebSocket(call, upgrading);
      else if (stream && isHttp2) forwardStream(call, stream, this.#deps.limits.idleTimeoutMs);
      else await forward(call);
    } catch (thrown) {
      // What was cut meanwhile has been answered.
      if (exchange?.ended) return;
      const refused = toRefused(thrown);
      const doubtful = inDoubt(refused) || headerOf(request.rawHeaders, 'expect') !== undefined;
      const close = doubtful && !multiplexed;
      const unread = !close && !multiplexed && !upgrading && !request.complete;
      if (unread && exchange && !exchange.forwarded) {
        connection.refusing = refused;
        await readOn(request, REST_MS);
        connection.refusing = undefined;
        if (exchange.ended) return;
      }
      if (close) {
        connection.doomed = true;
        connection.turns.clear();
      }
      this.#refuse(exchange, refused);
      const { heldMs } = this.#deps.journal;
      if (heldMs > 0) await sleep(heldMs, undefined, { ref: false });
      answerRefusal({ request, response }, refused, exchange?.requestId ?? 'none', close);
      if (!close) drain(request);
    }
  }

  /** A request that asks to go on as a WebSocket: nothing behind its head is read as HTTP, whatever is answered. */
  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const connection = this.#connections.get(socket);
    if (!connection || connection.doomed) return;
    if (connection.turns.busy) {
      // Behind an answer that is still to come there is no place for another.
      this.#recordUnreadable(new Refused('pipeline_limit'), this.#ingressIn(connection));
      socket.destroy();
      return;
    }
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket);
    response.once('finish', () => lastWordSaid(socket));
    const upgrading = {
      socket,
      detach: () => response.detachSocket(socket),
      idleTimeoutMs: this.#deps.limits.idleTimeoutMs,
    };
    // Whatever comes before the answer is another request.
    const problem = head.length > 0 ? 'upgrade_with_body' : undefined;
    void this.#serve(request, response, connection, { problem, upgrading });
  }

  async #connect(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const connection = this.#connections.get(socket);
    if (!connection || connection.doomed) return;
    const pipelined = connection.turns.busy;
    let exchange: Exchange | undefined;
    try {
      exchange = this.#begin('connect', request);
      if (pipelined) throw new Refused('pipeline_limit');
      if (connection.origin) throw new Refused('connect_not_allowed'); // a tunnel in a tunnel
      this.#assertSound(request);
      const target = connectTarget(request.url ?? '');
      exchange.target = target;
      await this.#openings.open({
        exchange,
        socket,
        head,
        target,
        accept: ESTABLISHED,
        mayBePlain: false,
        assertAgrees: () => assertHostAgrees(request, 'connect'),
      });
    } catch (thrown) {
      const refused = toRefused(thrown);
      this.#refuse(exchange, refused);
      // Behind an answer that is still to come there is no place for another.
      if (pipelined) socket.destroy();
      else part(socket, refusalBytes(refused, exchange?.requestId ?? 'none'));
    }
  }

  async #socks(socket: Socket): Promise<void> {
    let exchange: Exchange | undefined;
    try {
      const { journal, binding, limits } = this.#deps;
      const { authority, rest } = await readSocks(socket, limits.headerTimeoutMs);
      exchange = journal.begin('socks5', 'CONNECT', binding());
      const target = connectTarget(authority);
      exchange.target = target;
      await this.#openings.open({
        exchange,
        socket,
        head: rest,
        target,
        accept: socksReply(SOCKS_REPLY.succeeded),
        mayBePlain: true,
        assertAgrees: () => {},
      });
    } catch (thrown) {
      const refused = toRefused(thrown);
      if (exchange) this.#refuse(exchange, refused);
      else if (refused.reason !== 'client_gone') this.#recordUnreadable(refused, 'socks5');
      const reply = thrown instanceof SocksRefused ? thrown.reply : SOCKS_REPLY.notAllowed;
      if (reply === undefined) socket.destroy();
      else part(socket, socksReply(reply));
    }
  }

  /** Takes the place of the record. @throws {Refused} audit_backpressure */
  #begin(ingress: Exchange['ingress'], request: ProgramRequest): Exchange {
    const { journal, binding } = this.#deps;
    const exchange = journal.begin(ingress, request.method ?? '', binding());
    exchange.requestComplete = () => request.complete;
    return exchange;
  }

  /** @throws {Refused} what is wrong with the head */
  #assertSound(request: ProgramRequest, wire: Wire = 'http1'): void {
    const { method = '', httpVersion, rawHeaders } = request;
    const head = { method, httpVersion, rawHeaders };
    const problem = headProblem(head, this.#deps.limits.headerCount, wire);
    // Nothing is known yet of what would speak the other protocol, so it is the request that is wrong.
    if (problem === 'upgrade_not_allowed') throw new Refused(problem, { status: 400 });
    if (problem) throw new Refused(problem);
  }

  #bodyLimit({ rule, limits: { requestBytes = Number.POSITIVE_INFINITY } }: Grant): BodyLimit {
    const own = this.#deps.limits.requestBytes;
    return requestBytes <= own ? { bytes: requestBytes, rule } : { bytes: own, rule: null };
  }

  /** Takes the rule's places. @throws {Refused} rate_limited, concurrency_limited */
  #limit(exchange: Exchange, { policy, rule, limits }: Limited): void {
    const place = this.#deps.ruleLimits.take(`${policy}/${rule}`, limits, performance.now());
    exchange.quota = place.quota && { name: rule, quota: place.quota };
    if (!place.ok) {
      const { reason, retryAfterMs } = place;
      throw new Refused(reason, { rule, retryAfterMs, quota: exchange.quota });
    }
    exchange.onEnd(place.release);
    if (limits.durationMs === undefined) return;
    const timer = setTimeout(
      () => exchange.cut(new Refused('upstream_timeout', { rule })),
      Math.min(limits.durationMs, TIMER_MAX_MS),
    );
    exchange.onEnd(() => clearTimeout(timer));
  }

  /** Records a refusal. */
  #refuse(exchange: Exchange | undefined, refused: Refused): void {
    if (refused.code === 'INTERNAL') this.#deps.onFault(refused, exchange?.requestId ?? '');
    exchange?.refuse(refused);
  }

  /** Bytes that llhttp would not take, a head or body that did not come in time, a connection that broke. */
  #unreadable(error: ParseFailure, socket: Socket): void {
    const connection = this.#connections.get(socket);
    if (!connection || connection.doomed) return;
    connection.doomed = true;
    const { current, turns } = connection;
    const unfinished = current?.ended || current?.requestComplete() ? undefined : current;
    const dropped = turns.dropUnfinished();
    // A connection that broke carried no request of its own.
    if (!/^(?:HPE_|ERR_HTTP_)/.test(error.code ?? '')) {
      unfinished?.cut(connection.refusing ?? new Refused('client_gone'));
      socket.destroy();
      return;
    }
    const refused = refusalOf(error, unfinished !== undefined || dropped);
    if (unfinished) {
      // That a program broke off does not hide what it was refused for.
      unfinished.cut(refused.reason === 'client_gone' ? (connection.refusing ?? refused) : refused);
      return;
    }
    // The rest of a request that has its answer and its record is not another.
    const isRest = !dropped && connection.begun?.complete === false;
    const bytes = isRest ? NOTHING : this.#unreadableAnswer(refused, connection);
    if (turns.busy) connection.parting = bytes;
    else part(socket, bytes);
  }

  #unreadableAnswer(refused: Refused, connection: Connection): Buffer {
    return refusalBytes(refused, this.#recordUnreadable(refused, this.#ingressIn(connection)));
  }

  #ingressIn({ origin }: Connection): Exchange['ingress'] {
    return origin ? 'intercept' : 'forward';
  }

  /** Returns the id of its record. */
  #recordUnreadable(refused: Refused, ingress: Exchange['ingress']): string {
    try {
      const exchange = this.#deps.journal.begin(ingress, '', this.#deps.binding());
      exchange.refuse(refused);
      return exchange.requestId;
    } catch {
      return 'none';
    }
  }

  #settled(socket: Socket, connection: Connection): void {
    connection.current = undefined;
    // An answer that ends the connection says that nothing behind it was served (RFC 9112, 9.6): a program may ask for it again.
    if (!socket.writable) connection.turns.clear();
    connection.turns.over();
    if (connection.parting && !connection.turns.busy) part(socket, connection.parting);
  }

  #turnAway(socket: Socket): void {
    const refused = new Refused('conn_limit', { retryAfterMs: PLACES_BACK_MS });
    const bytes = refusalBytes(refused, this.#recordUnreadable(refused, 'forward'));
    firstBytes(socket, PARTING_MS, ([version]) => {
      if (version === SOCKS_VERSION) socket.destroy();
      else part(socket, bytes);
    });
  }

  #dropped(): void {
    if (this.#deps.binding() !== undefined)
      this.#recordUnreadable(new Refused('conn_limit'), 'forward');
  }
}

/** After these nobody can be sure where the next request begins. */
function inDoubt({ status, reason }: Refused): boolean {
  return status === 400 || status === 408 || status === 431 || reason === 'pipeline_limit';
}

function refusalOf(error: ParseFailure, insideBody: boolean): Refused {
  if (insideBody && error.code === 'ERR_HTTP_REQUEST_TIMEOUT') return new Refused('body_timeout');
  if (insideBody && error.code === 'HPE_INVALID_EOF_STATE') return new Refused('client_gone');
  return blame(error);
}

/**
 * Waits for the first bytes of a connection, which stay in it; one that ends without any, or says nothing for so long, is closed, and nothing
 * is recorded.
 */
function firstBytes(socket: Socket, silenceMs: number, then: (bytes: Buffer) => void): void {
  const close = (): void => void socket.destroy();
  const heard = afterTime(silenceMs, close);
  socket.once('close', heard).once('end', close);
  socket.once('data', (bytes: Buffer) => {
    heard();
    socket.off('close', heard).off('end', close).pause();
    socket.unshift(bytes);
    then(bytes);
  });
  socket.resume();
}

/** RFC 9113, 3.4. No method of HTTP/1.1 begins so; what comes in smaller pieces is not taken for it. */
function beginsHttp2(bytes: Buffer): boolean {
  return bytes.subarray(0, 4).toString('latin1') === 'PRI ';
}

function wireOf(multiplexed: boolean, upgrading: Upgrading | undefined): Wire {
  if (upgrading) return 'websocket';
  return multiplexed ? 'http2' : 'http1';
}

/**
 * Takes nothing more from the connection: not from the socket, and not from what has been read of it, where thousands of requests may
 * wait. Node has no other way to stop a parser amid a buffer; where it should lose this one, they are made and passed over.
 */
function stopReading(socket: Socket): void {
  socket.pause();
  const parser: unknown = Reflect.get(socket, 'parser');
  if (typeof parser !== 'object' || parser === null || !('pause' in parser)) return;
  if (typeof parser.pause === 'function') parser.pause();
}

/** Says the last word on a connection, and lets it be read before the connection goes. */
function part(socket: Socket, bytes: Buffer): void {
  socket.write(bytes);
  lastWordSaid(socket);
}

function lastWordSaid(socket: Socket): void {
  socket.end();
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), PARTING_MS);
  socket.once('close', () => clearTimeout(timer));
}
