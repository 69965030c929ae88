import { chownSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Address } from '#core/address';
import type { Clock } from '#core/clock';
import { listen } from '#core/http';
import type { RuleLimits } from '#policies';
import type { Binding, Grant } from './binding.ts';
import type { Exchange } from './exchange.ts';
import { forward } from './forward.ts';
import { headerOf, headProblem } from './framing.ts';
import type { Journal } from './journal.ts';
import type { Measures } from './measures.ts';
import { blame, type ParseFailure } from './parse-failure.ts';
import { answerRefusal, Refused, refusalBytes, toRefused } from './refusal.ts';
import { assertBodySize, drain } from './request-body.ts';
import { assertHostAgrees, connectTarget, ingressOf, requestTarget } from './request-target.ts';
import { tunnel } from './tunnel.ts';

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
/** Time for a refusal to be read before the connection goes. */
const PARTING_MS = 500;

interface Connection {
  readonly open: Set<Exchange>;
  /** Nothing that arrives on it is looked at any more. */
  doomed: boolean;
  /** The last answer, once those before it are out. */
  parting: Buffer | undefined;
}

/**
 * The HTTP server of one sandbox, and its only way out: absolute form, CONNECT and datasource aliases. llhttp reads strictly, and
 * what it reads is checked again before anything is decided. A connection that carried something in doubt is closed.
 */
export class Door {
  readonly #deps: DoorDeps;
  readonly #server: Server;
  readonly #connections = new Map<Socket, Connection>();
  #tunnels = 0;

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
      keepAliveTimeout: 30_000,
    });
    // Above the door's own bound, which answers by its own reason.
    this.#server.maxHeadersCount = Math.max(2_000, limits.headerCount + 1);
    this.#server.maxConnections = limits.connections;
    this.#server
      .on('connection', (socket: Socket) => this.#connected(socket))
      .on('request', (request, response) => void this.#serve(request, response))
      .on('checkContinue', (request, response) => void this.#serve(request, response))
      .on('checkExpectation', (request, response) => void this.#serve(request, response))
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
    this.#connections.set(socket, { open: new Set(), doomed: false, parting: undefined });
    socket.on('error', () => {});
    socket.once('close', () => this.#connections.delete(socket));
  }

  /** One request: each step takes what the last one proved, and any refusal ends up in the one catch. */
  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const connection = this.#connections.get(request.socket);
    if (!connection || connection.doomed) return;
    let exchange: Exchange | undefined;
    try {
      const ingress = ingressOf(request.url ?? '');
      exchange = this.#begin(ingress, request, connection);
      const { requestId } = exchange;
      exchange.onCut((refused) => answerRefusal(response, refused, requestId, true));
      response.once('close', () => this.#settled(request.socket, connection, exchange));
      this.#assertSound(request, connection);
      const target = requestTarget(request);
      exchange.target = target;
      const binding = assertBound(exchange.binding);
      const nowMs = this.#deps.now();
      const grant = binding.permit(target, nowMs);
      exchange.grant = grant;
      assertHostAgrees(request, ingress);
      const requestMaxBytes = Math.min(
        this.#deps.limits.requestBytes,
        grant.limits.requestBytes ?? Number.POSITIVE_INFINITY,
      );
      assertBodySize(request, requestMaxBytes);
      this.#limit(exchange, grant);
      await forward({
        exchange,
        request,
        response,
        target,
        grant,
        binding,
        nowMs,
        requestMaxBytes,
      });
    } catch (thrown) {
      // What was cut meanwhile has been answered.
      if (exchange?.ended) return;
      const refused = toRefused(thrown);
      const close = inDoubt(refused) || headerOf(request.rawHeaders, 'expect') !== undefined;
      if (close) connection.doomed = true;
      const told = this.#refuse(exchange, refused);
      answerRefusal(response, told, exchange?.requestId ?? 'none', close);
      if (!close) drain(request);
    }
  }

  async #connect(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const connection = this.#connections.get(socket);
    if (!connection || connection.doomed) return;
    const { limits, measures, now } = this.#deps;
    const pipelined = connection.open.size > 0;
    let exchange: Exchange | undefined;
    try {
      exchange = this.#begin('connect', request, connection);
      if (pipelined) throw new Refused('pipeline_limit');
      this.#assertSound(request, connection);
      const target = connectTarget(request);
      exchange.target = target;
      const binding = assertBound(exchange.binding);
      const grant = binding.permit(target, now());
      exchange.grant = grant;
      assertHostAgrees(request, 'connect');
      if (grant.intercept)
        throw new Refused('interception_required', {
          rule: grant.rule,
          target: exchange.targetText,
        });
      if (this.#tunnels >= limits.tunnels) throw new Refused('tunnel_limit');
      this.#limit(exchange, grant);
      this.#tunnels += 1;
      measures.tunnels.inc();
      exchange.onEnd(() => {
        this.#tunnels -= 1;
        measures.tunnels.dec();
      });
      const { helloTimeoutMs, idleTimeoutMs } = limits;
      await tunnel({
        exchange,
        socket,
        head,
        target,
        grant,
        binding,
        helloTimeoutMs,
        idleTimeoutMs,
        now,
      });
    } catch (thrown) {
      const told = this.#refuse(exchange, toRefused(thrown));
      // Behind an answer that is still to come there is no place for another.
      if (pipelined) socket.destroy();
      else part(socket, refusalBytes(told, exchange?.requestId ?? 'none'));
    }
  }

  /** Takes the place of the record. @throws {Refused} audit_backpressure */
  #begin(ingress: Exchange['ingress'], request: IncomingMessage, connection: Connection): Exchange {
    const { journal, binding } = this.#deps;
    const exchange = journal.begin(ingress, request.method ?? '', binding());
    exchange.requestComplete = () => request.complete;
    connection.open.add(exchange);
    return exchange;
  }

  /** @throws {Refused} what is wrong with the head, or with its place in the connection */
  #assertSound(request: IncomingMessage, connection: Connection): void {
    const { method = '', httpVersion, rawHeaders } = request;
    const problem = headProblem({ method, httpVersion, rawHeaders }, this.#deps.limits.headerCount);
    // Nothing is known yet of what would speak the other protocol, so it is the request that is wrong.
    if (problem === 'upgrade_not_allowed') throw new Refused(problem, { status: 400 });
    if (problem) throw new Refused(problem);
    if (connection.open.size > PIPELINE_MAX) throw new Refused('pipeline_limit');
  }

  /** Takes the rule's places. @throws {Refused} rate_limited, concurrency_limited */
  #limit(exchange: Exchange, { policy, rule, limits }: Grant): void {
    const place = this.#deps.ruleLimits.take(`${policy}/${rule}`, limits, performance.now());
    if (!place.ok) throw new Refused(place.reason, { rule, retryAfterMs: place.retryAfterMs });
    exchange.onEnd(place.release);
    if (limits.durationMs === undefined) return;
    const timer = setTimeout(
      () => exchange.cut(new Refused('upstream_timeout', { rule })),
      limits.durationMs,
    );
    exchange.onEnd(() => clearTimeout(timer));
  }

  /** Records a refusal, and returns the one to tell. */
  #refuse(exchange: Exchange | undefined, refused: Refused): Refused {
    if (refused.code === 'INTERNAL') this.#deps.onFault(refused, exchange?.requestId ?? '');
    return exchange?.refuse(refused) ?? refused;
  }

  /** Bytes that llhttp would not take, a head or body that did not come in time, a connection that broke. */
  #unreadable(error: ParseFailure, socket: Socket): void {
    const connection = this.#connections.get(socket);
    if (!connection || connection.doomed) return;
    connection.doomed = true;
    const unfinished = [...connection.open].find(
      (exchange) => !exchange.ended && !exchange.requestComplete(),
    );
    // A connection that broke, or on which nothing was ever said, carried no request of its own.
    if (!/^(?:HPE_|ERR_HTTP_)/.test(error.code ?? '') || (!unfinished && silent(error, socket))) {
      unfinished?.cut(new Refused('client_gone'));
      socket.destroy();
      return;
    }
    const refused = refusalOf(error, unfinished !== undefined);
    if (unfinished) {
      unfinished.cut(refused);
      return;
    }
    const { told, requestId } = this.#recordUnreadable(refused);
    const bytes = refusalBytes(told, requestId);
    if (connection.open.size > 0) connection.parting = bytes;
    else part(socket, bytes);
  }

  #recordUnreadable(refused: Refused): { told: Refused; requestId: string } {
    try {
      const exchange = this.#deps.journal.begin('forward', '', this.#deps.binding());
      return { told: exchange.refuse(refused), requestId: exchange.requestId };
    } catch {
      return { told: refused, requestId: 'none' };
    }
  }

  #settled(socket: Socket, connection: Connection, exchange: Exchange | undefined): void {
    if (exchange) connection.open.delete(exchange);
    if (connection.parting && connection.open.size === 0) part(socket, connection.parting);
  }

  #dropped(): void {
    if (this.#deps.binding() !== undefined) this.#recordUnreadable(new Refused('conn_limit'));
  }
}

function assertBound(binding: Binding | undefined): Binding {
  if (!binding) throw new Refused('not_bound');
  return binding;
}

/** After these nobody can be sure where the next request begins. */
function inDoubt({ status, reason }: Refused): boolean {
  return status === 400 || status === 408 || status === 431 || reason === 'pipeline_limit';
}

function silent({ code }: ParseFailure, socket: Socket): boolean {
  return code === 'ERR_HTTP_REQUEST_TIMEOUT' && socket.bytesRead === 0;
}

function refusalOf(error: ParseFailure, insideBody: boolean): Refused {
  if (insideBody && error.code === 'ERR_HTTP_REQUEST_TIMEOUT') return new Refused('body_timeout');
  if (insideBody && error.code === 'HPE_INVALID_EOF_STATE') return new Refused('client_gone');
  return blame(error);
}

/** Says the last word on a connection, and lets it be read before the connection goes. */
function part(socket: Socket, bytes: Buffer): void {
  socket.end(bytes);
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), PARTING_MS);
  socket.once('close', () => clearTimeout(timer));
}
