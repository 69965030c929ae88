import type { PolicyFile, PolicyFiles } from '#policystore';
import type { Ask, PolicyPage, PolicySignature, PolicySnapshot } from './protocol.ts';

/**
 * The policy files as the launcher reads them for the runner, from the directory of its own configuration: it may be closed to the runner's
 * user. To be read by one at a time.
 */
export function launcherFiles(ask: <T>(verb: Ask) => Promise<T>): PolicyFiles {
  return {
    async signature() {
      return (await ask<PolicySignature>({ verb: 'policySignature' })).signature;
    },
    async read() {
      const { pages } = await ask<PolicySnapshot>({ verb: 'readPolicies' });
      const parts: Buffer[] = [];
      for (let page = 0; page < pages; page++) {
        const { content } = await ask<PolicyPage>({ verb: 'policyPage', page });
        parts.push(Buffer.from(content, 'base64'));
      }
      const files: PolicyFile[] = JSON.parse(Buffer.concat(parts).toString('utf8')); // the launcher is our own code
      return files;
    },
  };
}
