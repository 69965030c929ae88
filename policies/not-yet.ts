import type { Report } from './checked.ts';
import type { PolicyDocument } from './document.ts';

/**
 * What the language has and this version does not enforce. A restriction that is silently not enforced would be a lie in a
 * reviewed file, so it is a load error; the issue that enforces one removes its line here.
 */
export function notInThisVersion(document: PolicyDocument, report: Report): void {
  switch (document.kind) {
    case 'CredentialBinding':
      if ('oauth2' in document.spec.inject) {
        const { grant = 'client_credentials' } = document.spec.inject.oauth2;
        if (grant !== 'client_credentials')
          report(['spec', 'inject', 'oauth2', 'grant'], `${grant} ${NOT_YET}`);
      }
      if (document.spec.onReject401 === 'refreshOnce')
        report(['spec', 'onReject401'], `refreshOnce ${NOT_YET}`);
      return;
    case 'Boundary':
    case 'PolicyTest':
    case 'Role':
    case 'EgressPolicy':
    case 'Datasource':
      return;
  }
}

const NOT_YET = 'is not enforced in this version, so it is refused';
