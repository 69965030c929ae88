/**
 * How long things took, by a label's value, in the form of a histogram of prom-client: what happens at every request costs a few additions,
 * and becomes text when somebody asks for it.
 */
export class Timing {
  readonly name: string;
  readonly help: string;
  readonly type = 'histogram';
  readonly aggregator = 'sum';
  readonly #label: string | undefined;
  readonly #bounds: readonly number[];
  readonly #series = new Map<string, TimingSeries>();
  readonly #only: TimingSeries | undefined;

  /** `bounds`: the upper ends of the buckets, ascending, in seconds. */
  constructor(name: string, help: string, bounds: readonly number[], label?: string) {
    this.name = name;
    this.help = help;
    this.#bounds = bounds;
    this.#label = label;
    this.#only = label === undefined ? this.of('') : undefined;
  }

  /** The series with this value of the label; there from its first mention. */
  of(value: string): TimingSeries {
    let found = this.#series.get(value);
    if (!found) this.#series.set(value, (found = new TimingSeries(this.#bounds)));
    return found;
  }

  /** Of the one series of a timing without a label. */
  observe(seconds: number): void {
    this.#only?.observe(seconds);
  }

  /** What a registry asks each of its metrics for. */
  async get() {
    const values = [...this.#series].flatMap(([value, series]) => {
      const labels = this.#label === undefined ? {} : { [this.#label]: value };
      return series.values(this.name, labels);
    });
    const { name, help, type, aggregator } = this;
    return { name, help, type, aggregator, values };
  }
}

/** The numbers of one series. */
export class TimingSeries {
  readonly #bounds: readonly number[];
  /** Of each bucket alone; the last one is for what is beyond all of them. */
  readonly #counts: number[];
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(seconds: number): void {
    let bucket = 0;
    while (bucket < this.#bounds.length && seconds > (this.#bounds[bucket] ?? 0)) bucket += 1;
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#sum += seconds;
  }

  /** As Prometheus wants them: each bucket with all that are smaller. */
  values(name: string, sharedLabels: Readonly<Record<string, string>>) {
    let count = 0;
    const buckets = this.#counts.map((own, bucket) => {
      count += own;
      const le = this.#bounds[bucket] ?? '+Inf';
      return { metricName: `${name}_bucket`, labels: { le }, sharedLabels, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, sharedLabels, value: this.#sum },
      { metricName: `${name}_count`, sharedLabels, value: count },
    ];
  }
}
