import {
  type HealthCheckResponse,
  type HealthServer,
  HealthCheckResponse_ServingStatus as Status,
} from '#proto';
import { OutriderError } from './errors.ts';
import { type Report, serverStream, unary } from './grpc.ts';

/** The gRPC health protocol for a server and the services it names; all are SERVING until `setServing(false)`. */
export class GrpcHealth {
  readonly #services: ReadonlySet<string>;
  readonly #watching = new Set<() => void>();
  #serving = true;

  constructor(services: readonly string[]) {
    this.#services = new Set(['', ...services]);
  }

  setServing(serving: boolean): void {
    this.#serving = serving;
    for (const wake of this.#watching) wake();
  }

  service(report: Report): HealthServer {
    return {
      check: unary(
        'Check',
        async ({ service }): Promise<HealthCheckResponse> => {
          if (!this.#services.has(service)) throw new OutriderError('NOT_FOUND', 'no such service');
          return { status: this.#status() };
        },
        report,
      ),
      watch: serverStream(
        'Watch',
        ({ service }, { signal }) => this.#watch(service, signal),
        report,
      ),
    };
  }

  async *#watch(service: string, signal: AbortSignal): AsyncGenerator<HealthCheckResponse> {
    let last: Status | undefined;
    while (!signal.aborted) {
      const status = this.#services.has(service) ? this.#status() : Status.SERVICE_UNKNOWN;
      if (status !== last) yield { status };
      last = status;
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#watching.delete(wake);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        this.#watching.add(wake);
        signal.addEventListener('abort', wake);
        if (signal.aborted) wake();
      });
    }
  }

  #status(): Status {
    return this.#serving ? Status.SERVING : Status.NOT_SERVING;
  }
}
