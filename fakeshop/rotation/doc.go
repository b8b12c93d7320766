// Package rotation renews the shop's secrets in Vault before they are too old:
// each service's database login, with its password, and whatever key lies beside
// it. It runs as a CronJob, as often as one likes, and does nothing most days.
//
// Each service has two logins by turns, shop_SERVICE_a and shop_SERVICE_b, and
// so has the rotator itself. A turn goes like this:
//
//  1. the login whose turn it is gets a new password, and is tried on every server;
//  2. Vault gets a new version of the secret, if nobody wrote one meanwhile;
//  3. services read Vault again, and make their connections anew;
//  4. a login that no secret names any more is ended, but only when all have had
//     time to read again and it has no session left on any server.
//
// A service's old login works until then, so no request need fail. What a run
// that was killed left is finished by the next, which begins with 4: at no
// instant does Vault hold a login that PostgreSQL would refuse, and what else
// there is, a login that no secret names, is told from the secrets alone. One run
// at a time: it holds an advisory lock of the database, by the very connection
// that it does all its work over.
//
// Card tokens outlive the key they were made with, for nothing is ever looked up
// by a token; keys before the present one stay readable in Vault, by version.
package rotation
