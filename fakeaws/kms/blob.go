package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// A ciphertext blob is: magic, the key's id, a nonce, AES-256-GCM output. The
// header and the encryption context are authenticated, so that neither can be
// swapped between blobs.
const (
	blobMagic  = "MSK1"
	nonceSize  = 12
	tagSize    = 16
	headerSize = len(blobMagic) + keyIDSize
)

// errBlob says a blob was not made by this key with this context. It tells no
// more, as the real service does not.
var errBlob = errors.New("the ciphertext is not valid")

// blobKeyID returns the id of the key that sealed blob.
func blobKeyID(blob []byte) (string, error) {
	if len(blob) < headerSize+nonceSize+tagSize || string(blob[:len(blobMagic)]) != blobMagic {
		return "", errBlob
	}
	id := string(blob[len(blobMagic):headerSize])
	if !uuidForm.MatchString(id) {
		return "", errBlob
	}
	return id, nil
}

// seal encrypts plaintext under the key, bound to the encryption context.
func (k *Key) seal(plaintext []byte, context map[string]string) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	blob := make([]byte, headerSize+nonceSize, headerSize+nonceSize+len(plaintext)+tagSize)
	copy(blob, blobMagic)
	copy(blob[len(blobMagic):], k.ID)
	rand.Read(blob[headerSize:])
	return aead.Seal(blob, blob[headerSize:], plaintext, aad(blob[:headerSize], context)), nil
}

// open reverses seal; every failure is errBlob.
func (k *Key) open(blob []byte, context map[string]string) ([]byte, error) {
	id, err := blobKeyID(blob)
	if err != nil || id != k.ID {
		return nil, errBlob
	}
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	nonce, sealed := blob[headerSize:headerSize+nonceSize], blob[headerSize+nonceSize:]
	plaintext, err := aead.Open(nil, nonce, sealed, aad(blob[:headerSize], context))
	if err != nil {
		return nil, errBlob
	}
	return plaintext, nil
}

func (k *Key) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.material[:])
	if err != nil {
		return nil, fmt.Errorf("prepare the cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("prepare the cipher: %w", err)
	}
	return aead, nil
}

// aad writes header and context in one way only: pairs sorted by key, every
// string with its length before it.
func aad(header []byte, context map[string]string) []byte {
	out := slices.Clone(header)
	for _, key := range slices.Sorted(maps.Keys(context)) {
		for _, s := range []string{key, context[key]} {
			out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
			out = append(out, s...)
		}
	}
	return out
}
