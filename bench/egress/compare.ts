import { quantile } from '../measure.ts';
import { cpuPerRequest, type Load } from './load.ts';

/** One proxy under test and how its clients load it. */
export interface Subject {
  readonly name: string;
  readonly pid: number;
  readonly load: (seconds: number) => Promise<Load>;
}

const ROUNDS = 7;
const SECONDS = 2;
/** What compiles its own code while it runs is not done with that before. */
const WARM_UP_REQUESTS = 120_000;
const WARM_UP_SECONDS_MAX = 20;

/**
 * `<name>_cpu_us`, processor time of each subject for one request, and `<name>_cpu_requests`, how many were counted. In turns, so that a
 * slow moment of the machine meets all of them; the figure is the median of the rounds.
 */
export async function compare(subjects: readonly Subject[]): Promise<Record<string, number>> {
  for (const { load } of subjects) {
    let requests = 0;
    for (
      let spent = 0;
      spent < WARM_UP_SECONDS_MAX && requests < WARM_UP_REQUESTS;
      spent += SECONDS
    )
      requests += (await load(SECONDS)).requests;
  }
  const samples = subjects.map((): { us: number; requests: number }[] => []);
  for (let round = 0; round < ROUNDS; round++)
    for (const [index, { name, pid, load }] of subjects.entries())
      samples[index]?.push(await cpuPerRequest(pid, name, () => load(SECONDS)));
  return Object.fromEntries(
    subjects.flatMap(({ name }, index) => {
      const taken = samples[index] ?? [];
      return [
        [
          `${name}_cpu_us`,
          quantile(
            taken.map(({ us }) => us),
            0.5,
          ),
        ],
        [`${name}_cpu_requests`, taken.reduce((sum, sample) => sum + sample.requests, 0)],
      ];
    }),
  );
}
